-- Notes that an attempt ends because its GPU failed; returns whether the attempt is still the current
-- one.
--
-- The job keeps an earlier reason to downgrade.
local job = KEYS[1]
local token, reason = unpack(ARGV)

if redis.call('HGET', job, 'open') ~= token then return 0 end
if not redis.call('HGET', job, 'downgrade') then
  redis.call('HSET', job, 'downgrade', reason)
end
return 1
