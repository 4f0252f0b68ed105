-- Returns the number of dead letters whose records have not expired.
-- uses: clock
local dead = KEYS[1]
local job_ttl_s = ARGV[1]

local _, seconds = clock()
redis.call('ZREMRANGEBYSCORE', dead, '-inf', seconds - job_ttl_s)
return redis.call('ZCARD', dead)
