-- Adds to a field of the hash of counters. One that cannot be written does not keep the change that
-- it counts.
local function count(counters, field, more, ttl_s)
  redis.pcall('HINCRBYFLOAT', counters, field, more)
  redis.pcall('EXPIRE', counters, ttl_s)
end

-- Adds to each counter in ARGV, from a place on: a field, then what to add to it.
local function count_arguments(counters, first, ttl_s)
  for place = first, #ARGV, 2 do count(counters, ARGV[place], ARGV[place + 1], ttl_s) end
end
