-- Renews the lease of an attempt; returns whether the attempt is still the current one.
--
-- A lease that expired because Redis was paused is taken again.
-- uses: read_state
local job, lease = unpack(KEYS)
local token, lease_ms = unpack(ARGV)

local _, ended = read_state(job)
if ended or redis.call('HGET', job, 'open') ~= token then return 0 end
redis.call('SET', lease, token, 'PX', lease_ms)
redis.call('HDEL', job, 'silent_since')
return 1
