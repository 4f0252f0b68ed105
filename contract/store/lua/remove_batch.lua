-- Removes the record of a batch, and its place in the list.
local batch, batches = unpack(KEYS)
local id = unpack(ARGV)

if redis.call('HEXISTS', batch, 'split') == 1 then redis.call('DEL', batch) end
redis.pcall('ZREM', batches, id)
return 1
