-- Removes the outcome of a job that has ended; what stays of it has the time to live `ttl_s`.
--
-- A dead letter is none afterwards: without its payload it could not be tried again. A job that
-- others stand for is removed; returns how it was split.
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
