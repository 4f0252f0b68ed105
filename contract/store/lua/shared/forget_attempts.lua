-- Removes what a job that is done anew does not keep.
local function forget_attempts(job)
  redis.call('HDEL', job, 'code', 'message', 'started_at', 'ended_at', 'sent_at', 'attempts',
    'deaths', 'downgrade', 'open', 'silent_since')
end
