-- Stores a job and adds it to the queued jobs.
--
-- An expired payload is restored; a job that has ended and whose outcome has expired becomes a new
-- job. The queue's lists follow the named keys. Returns the stored digest, whether the message is
-- known to be sent, why the job is refused (see `overload`), and how the job is split, if it is.
-- uses: clock, read_state, queue_score, count, overload, forget_attempts, join_turns
local job, payload, queued, counters, outcome, dead = unpack(KEYS, 1, 6)
local id, digest, body, pair_count, request_count, priority, payload_ttl_s, job_ttl_s, max_queue,
  max_memory_percent, turns, group, trace = unpack(ARGV)

local now, seconds = clock()
local _, ended = read_state(job)
local on_record = redis.call('HGET', job, 'digest')
local expired = ended and redis.call('EXISTS', outcome) == 0
if on_record and not (expired and on_record == digest) then
  if not ended and on_record == digest then
    redis.call('SET', payload, body, 'EX', payload_ttl_s, 'NX')
  end
  local split = redis.call('HGET', job, 'split')
  return {on_record, redis.call('HEXISTS', job, 'sent_at'), '', 0, split}
end
local refused, amount = overload(7, max_queue, max_memory_percent)
if refused ~= '' then return {digest, 0, refused, amount, false} end
redis.call('DEL', outcome)
if on_record then
  redis.call('ZREM', dead, id)
  forget_attempts(job)
end
redis.call('HSET', job, 'digest', digest, 'state', 'queued', 'pairs', pair_count,
  'requests', request_count, 'priority', priority, 'submitted_at', now)
if trace ~= '' then redis.call('HSET', job, 'trace', trace) end
join_turns(turns, job, id, priority, group, job_ttl_s)
redis.call('EXPIRE', job, job_ttl_s)
redis.call('SET', payload, body, 'EX', payload_ttl_s)
redis.call('ZREMRANGEBYSCORE', queued, queue_score(priority, 0),
  queue_score(priority, seconds - job_ttl_s))
redis.call('ZADD', queued, queue_score(priority, now), id)
redis.call('EXPIRE', queued, job_ttl_s)
count(counters, JOBS_ACCEPTED, 1, job_ttl_s)
return {digest, 0, '', 0, false}
