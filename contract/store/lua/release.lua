-- Ends an attempt so that another can follow; returns whether that attempt was the current one.
--
-- `token` may be a prefix of the token; `died` is 1 if the attempt's process was killed. Counters
-- and their increments follow the named arguments.
-- uses: clock, read_state, queue_score, count
local job, lease, queued, running, counters = unpack(KEYS)
local id, token, downgrade, died, job_ttl_s = unpack(ARGV, 1, 5)

local now = clock()
local _, ended = read_state(job)
local open = redis.call('HGET', job, 'open')
if ended or not open or string.sub(open, 1, #token) ~= token then return 0 end
if redis.call('GET', lease) == open then redis.call('DEL', lease) end
redis.call('HDEL', job, 'open', 'primary', 'silent_since')
redis.call('HSET', job, 'state', 'queued', 'sent_at', now)
if downgrade ~= '' then redis.call('HSET', job, 'downgrade', downgrade) end
if died == '1' then
  redis.call('HINCRBY', job, 'deaths', 1)
  count(counters, DEATHS, 1, job_ttl_s)
end
count_arguments(counters, 6, job_ttl_s)
redis.call('ZREM', running, id)
redis.call('ZADD', queued, queue_score(redis.call('HGET', job, 'priority'), now), id)
redis.call('EXPIRE', queued, job_ttl_s)
return 1
