-- Records the outcome of a job and notifies waiting clients.
--
-- `token` may be a prefix of the token, or '' for no attempt. A dead letter, which has a message,
-- keeps its payload for a retry. Counters and their increments follow the named arguments. Returns
-- 1 if the outcome was recorded, 0 if the job had ended before, has no record, or is being run by
-- an attempt with another token.
-- uses: clock, read_state, count
local job, outcome, payload, queued, running, totals, lease, dead, counters = unpack(KEYS)
local id, body, new_state, code, done_channel, result_ttl_s, job_ttl_s, token, letter_message =
  unpack(ARGV, 1, 9)

local now, seconds = clock()
local state, ended = read_state(job)
local open = redis.call('HGET', job, 'open')
if ended or not state then return 0 end
if token ~= '' and open and string.sub(open, 1, #token) ~= token then return 0 end
redis.call('SET', outcome, body, 'EX', result_ttl_s)
redis.call('HSET', job, 'state', new_state, 'code', code, 'ended_at', now)
redis.call('HDEL', job, 'open', 'primary', 'silent_since')
redis.call('EXPIRE', job, job_ttl_s)
redis.call('DEL', lease)
redis.call('ZREM', queued, id)
redis.call('ZREM', running, id)
redis.call('HINCRBY', totals, new_state, 1)
redis.call('EXPIRE', totals, job_ttl_s)
if letter_message == '' then
  redis.call('DEL', payload)
else
  redis.call('HSET', job, 'message', letter_message)
  redis.call('EXPIRE', payload, job_ttl_s)
  redis.call('ZREMRANGEBYSCORE', dead, '-inf', seconds - job_ttl_s)
  redis.call('ZADD', dead, now, id)
  redis.call('EXPIRE', dead, job_ttl_s)
end
count_arguments(counters, 10, job_ttl_s)
redis.call('PUBLISH', done_channel, id)
return 1
