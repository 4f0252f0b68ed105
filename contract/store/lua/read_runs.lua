-- Reads the runs that were started last, newest first.
--
-- Returns the time, and for each run its progress and the times of its start and last change.
-- uses: clock
local runs = KEYS[1]
local prefix, at_most = unpack(ARGV)

local found = {(clock())}
for _, id in ipairs(redis.call('ZREVRANGE', runs, 0, at_most - 1)) do
  local values = redis.call('HMGET', prefix .. id, 'progress', 'started_at', 'updated_at')
  if values[1] and values[2] and values[3] then found[#found + 1] = values end
end
return found
