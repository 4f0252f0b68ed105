-- Returns the server's time, the only clock that all machines share: as text with microseconds, and
-- in whole seconds.
local function clock()
  local time = redis.call('TIME')
  return string.format('%d.%06d', time[1], time[2]), time[1]
end
