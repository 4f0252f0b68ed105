-- Stores the progress of a run, and adds the run to the list.
-- uses: clock
local run, runs = unpack(KEYS)
local id, body, ttl_s = unpack(ARGV)

local now, seconds = clock()
redis.call('HSETNX', run, 'started_at', now)
redis.call('HSET', run, 'progress', body, 'updated_at', now)
redis.call('EXPIRE', run, ttl_s)
redis.call('ZREMRANGEBYSCORE', runs, '-inf', seconds - ttl_s)
redis.call('ZADD', runs, redis.call('HGET', run, 'started_at'), id)
redis.call('EXPIRE', runs, ttl_s)
return 1
