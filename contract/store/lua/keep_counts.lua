-- Keeps the counts of a batch that has ended in its record.
local batch = KEYS[1]
local counts = unpack(ARGV)

if redis.call('HEXISTS', batch, 'split') == 0 then return 0 end
redis.call('HSET', batch, 'counts', counts)
return 1
