-- Drops a dead letter; returns 1 if it was one. Its outcome is kept.
--
-- A key that does not hold the record of a job is removed, because it has no other use.
local job, payload, dead = unpack(KEYS)
local id = ARGV[1]

if redis.call('ZREM', dead, id) == 0 then return 0 end
local is_letter = redis.pcall('HEXISTS', job, 'message')
if is_letter == 0 then return 0 end
redis.call('DEL', payload)
if is_letter == 1 then redis.call('HDEL', job, 'message') else redis.call('DEL', job) end
return 1
