-- Removes a job from those that wait for their turn, so that its next message starts it.
local turns, job = unpack(KEYS)
local id = ARGV[1]

local group = redis.call('HGET', job, 'group')
if group then redis.call('LREM', turns .. ':' .. group, 0, id) end
return redis.call('HDEL', job, 'turn')
