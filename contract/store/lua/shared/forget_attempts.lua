-- Removes the fields that a job does not keep when it is queued again.
local function forget_attempts(job)
  redis.call('HDEL', job, 'code', 'message', 'started_at', 'ended_at', 'sent_at', 'attempts',
    'deaths', 'downgrade', 'turn', 'open', 'primary', 'silent_since')
end
