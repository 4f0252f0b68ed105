-- Returns why no job is accepted ('queue' with its length, or 'memory' with the percentage in use),
-- or '', and the length of the queue. The queue's lists are the keys from index `first_list` on.
local function overload(first_list, max_queue, max_memory_percent)
  local waiting = 0
  for place = first_list, #KEYS do waiting = waiting + redis.call('LLEN', KEYS[place]) end
  if waiting >= tonumber(max_queue) then return 'queue', waiting, waiting end
  local info = redis.pcall('INFO', 'memory')
  if type(info) == 'string' then
    local used = tonumber(string.match(info, 'used_memory:(%d+)'))
    local most = tonumber(string.match(info, 'maxmemory:(%d+)')) or 0
    if most > 0 and used * 100 > most * tonumber(max_memory_percent) then
      return 'memory', math.min(100, math.floor(used * 100 / most)), waiting
    end
  end
  return '', 0, waiting
end
