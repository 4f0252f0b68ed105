-- Adds to a field of the counters' hash. If the hash cannot be written, the state change that is
-- counted still takes place.
local function count(counters, field, more, ttl_s)
  redis.pcall('HINCRBYFLOAT', counters, field, more)
  redis.pcall('EXPIRE', counters, ttl_s)
end

-- Adds to the counters in ARGV from index `first` on: a field, then its increment.
local function count_arguments(counters, first, ttl_s)
  for place = first, #ARGV, 2 do count(counters, ARGV[place], ARGV[place + 1], ttl_s) end
end
