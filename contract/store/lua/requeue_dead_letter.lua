-- Turns a dead letter into a new job.
--
-- The queue's lists follow the named keys. Returns 1 if the job is queued again, 0 if it is not a
-- dead letter, and why it is refused: see `overload`. A job without a message is no longer a dead
-- letter: its records expired before the entry in the list, and another job may have its id.
-- uses: clock, queue_score, count, overload, forget_attempts, join_turns
local job, outcome, payload, queued, totals, dead, counters = unpack(KEYS, 1, 7)
local id, digest, body, payload_ttl_s, job_ttl_s, max_queue, max_memory_percent, turns, default_group =
  unpack(ARGV)

if not redis.call('ZSCORE', dead, id) then return {0, '', 0} end
if redis.call('HEXISTS', job, 'message') == 0 then
  redis.call('ZREM', dead, id)
  return {0, '', 0}
end
local refused, amount = overload(8, max_queue, max_memory_percent)
if refused ~= '' then return {0, refused, amount} end
local now = clock()
redis.call('ZREM', dead, id)
redis.call('HINCRBY', totals, redis.call('HGET', job, 'state'), -1)
forget_attempts(job)
redis.call('HSET', job, 'digest', digest, 'state', 'queued', 'submitted_at', now)
local priority = redis.call('HGET', job, 'priority')
local group = redis.call('HGET', job, 'group') or default_group
join_turns(turns, job, id, priority, group, job_ttl_s)
redis.call('EXPIRE', job, job_ttl_s)
redis.call('DEL', outcome)
redis.call('SET', payload, body, 'EX', payload_ttl_s)
redis.call('ZADD', queued, queue_score(priority, now), id)
redis.call('EXPIRE', queued, job_ttl_s)
count(counters, JOBS_ACCEPTED, 1, job_ttl_s)
return {1, '', 0}
