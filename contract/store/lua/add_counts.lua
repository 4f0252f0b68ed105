-- Adds to counters that do not belong to a job; the counters and their increments follow the time
-- to live.
-- uses: count
local counters = KEYS[1]
local ttl_s = ARGV[1]

count_arguments(counters, 2, ttl_s)
return 1
