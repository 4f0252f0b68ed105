-- Counts what belongs to no job: counters and what to add to them follow the time to live.
-- uses: count
local counters = KEYS[1]
local ttl_s = ARGV[1]

count_arguments(counters, 2, ttl_s)
return 1
