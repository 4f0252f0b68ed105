-- Starts an attempt at a job.
--
-- An attempt has a token. While it runs, the token is in the job's field `open` and in the lease, a
-- separate key that expires unless it is renewed. An attempt clears both when it ends; an attempt
-- that died leaves `open` without a lease.
--
-- Returns a verdict:
--
-- - 'unreadable': the job's key has another type
-- - 'unknown': there is no record of the job
-- - 'ended': the job has ended
-- - 'held': another attempt is running
-- - 'silent': another attempt may have died; try again after the grace period
-- - 'exhausted': the job has used all allowed attempts
-- - 'started': the attempt has started
--
-- The other values are the number of attempts, the number of those that died, why to downgrade, the
-- payload, and the state of a job that has ended. Calling twice with the same token has the same
-- effect as calling once.
--
-- If another server has become the primary since an attempt started, that attempt counts as lost and
-- not as dead. It may have ended, and the failover may have lost its outcome.
-- uses: clock, read_state, count, primary_id
local job, queued, running, payload, lease, counters = unpack(KEYS)
local id, job_ttl_s, token, lease_ms, grace_s, max_attempts = unpack(ARGV)

if type(redis.pcall('HGET', job, 'state')) == 'table' then
  redis.pcall('ZREM', queued, id)
  redis.pcall('ZREM', running, id)
  return {'unreadable', 0, 0, '', false}
end
local now, seconds = clock()
local state, ended = read_state(job)
if not state then return {'unknown', 0, 0, '', false} end
if ended then return {'ended', 0, 0, '', false, state} end
local attempts = tonumber(redis.call('HGET', job, 'attempts') or 0)
local open = redis.call('HGET', job, 'open')
local holder = redis.pcall('GET', lease)
if type(holder) == 'table' then
  redis.call('DEL', lease)
  holder = false
end
if holder and holder ~= token then return {'held', attempts, 0, '', false} end
if open and open ~= token then
  local since = redis.call('HGET', job, 'silent_since')
  if not since then redis.call('HSET', job, 'silent_since', now) end
  if not since or math.abs(now - since) < tonumber(grace_s) then
    return {'silent', attempts, 0, '', false}
  end
  local primary = redis.call('HGET', job, 'primary') or ''
  if primary == '' or primary == primary_id() then
    redis.call('HINCRBY', job, 'deaths', 1)
    count(counters, DEATHS, 1, job_ttl_s)
  end
  redis.call('HDEL', job, 'open', 'primary', 'silent_since')
end
local deaths = tonumber(redis.call('HGET', job, 'deaths') or 0)
local reason = redis.call('HGET', job, 'downgrade') or ''
if open ~= token then
  if attempts >= tonumber(max_attempts) then
    return {'exhausted', attempts, deaths, reason, false}
  end
  attempts = redis.call('HINCRBY', job, 'attempts', 1)
  redis.call('HSET', job, 'state', 'running', 'started_at', now, 'open', token, 'primary',
    primary_id())
  count(counters, ATTEMPTS, 1, job_ttl_s)
end
redis.call('SET', lease, token, 'PX', lease_ms)
redis.call('EXPIRE', job, job_ttl_s)
redis.call('ZREM', queued, id)
redis.call('ZREMRANGEBYSCORE', running, '-inf', seconds - job_ttl_s)
redis.call('ZADD', running, now, id)
redis.call('EXPIRE', running, job_ttl_s)
local body = redis.pcall('GET', payload)
if type(body) == 'table' then body = '' end
return {'started', attempts, deaths, reason, body}
