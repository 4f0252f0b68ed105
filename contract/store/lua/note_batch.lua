-- Notes the time of something in the record of a batch; returns whether the batch was cancelled.
-- uses: clock
local batch = KEYS[1]
local what, ttl_s = unpack(ARGV)

if redis.call('HEXISTS', batch, 'split') == 0 then return 0 end
local now = clock()
redis.call('HSET', batch, what, now)
redis.call('EXPIRE', batch, ttl_s)
return redis.call('HEXISTS', batch, 'cancelled_at')
