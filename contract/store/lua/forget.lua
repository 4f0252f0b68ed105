-- Removes the outcome of a job that has ended; its state is kept for `ttl_s` seconds.
--
-- A dead letter is removed from the list, because it cannot be retried without its payload. The
-- record of a split job is removed; returns how it was split.
-- uses: read_state
local job, outcome, payload, dead = unpack(KEYS)
local id, ttl_s = unpack(ARGV)

local _, ended = read_state(job)
if ended then
  redis.call('DEL', outcome, payload)
  redis.call('ZREM', dead, id)
  redis.call('HDEL', job, 'message')
  redis.call('EXPIRE', job, ttl_s)
end
local split = redis.call('HGET', job, 'split')
if split then redis.call('DEL', job) end
return split
