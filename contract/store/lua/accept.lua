-- Stores jobs in order, and adds them to the queued jobs. Stops after the first one that is refused,
-- or whose id has a record with another digest.
--
-- An expired payload is restored; a job that has ended and whose outcome has expired becomes a new
-- job. Three keys for each job follow the named keys, and the queue's lists come last.
--
-- Returns for each job the stored digest, whether the message is known to be sent, why the job is
-- refused, and how it is split. For the reason of a refusal, see `overload`.
-- uses: clock, read_state, queue_score, count, overload, forget_attempts, join_turns
local queued, counters, dead = unpack(KEYS, 1, 3)
local priority, payload_ttl_s, job_ttl_s, max_queue, max_memory_percent, turns, group, trace =
  unpack(ARGV, 1, 8)
-- Jobs that are stored at the same time keep their order in the queued jobs.
local tie_s = 0.00002

local now, seconds = clock()
local replies, stored, unsent, waiting = {}, 0, 0, nil

-- Returns why a new job is refused, if it is; the messages of the jobs before it are sent later.
local function refusal()
  if waiting then
    if waiting + unsent >= tonumber(max_queue) then return 'queue', waiting + unsent end
    return '', 0
  end
  local refused, amount, length = overload(#KEYS - 3, max_queue - unsent, max_memory_percent)
  waiting = length
  if refused == 'queue' then amount = amount + unsent end
  return refused, amount
end

local function accept(job, payload, outcome, id, digest, body, pair_count, request_count)
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
  local refused, amount = refusal()
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
  redis.call('ZADD', queued, queue_score(priority, now + tie_s * stored), id)
  stored = stored + 1
  return {digest, 0, '', 0, false}
end

for place = 0, (#ARGV - 8) / 5 - 1 do
  local key, argument = 4 + 3 * place, 9 + 5 * place
  local reply = accept(KEYS[key], KEYS[key + 1], KEYS[key + 2], unpack(ARGV, argument, argument + 4))
  replies[place + 1] = reply
  if reply[1] ~= ARGV[argument + 1] or reply[3] ~= '' then break end
  if reply[2] == 0 then unsent = unsent + 1 end
end
if stored > 0 then
  redis.call('ZREMRANGEBYSCORE', queued, queue_score(priority, 0),
    queue_score(priority, seconds - job_ttl_s))
  redis.call('EXPIRE', queued, job_ttl_s)
  count(counters, JOBS_ACCEPTED, stored, job_ttl_s)
end
return replies
