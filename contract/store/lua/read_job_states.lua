-- Reads the states of jobs; the keys are the job and the lease of each.
--
-- Returns for each: whether it is leased, and its state, times, priority, sizes and turn; no values if
-- the key does not hold the record of a job.
local found = {}
for place = 1, #KEYS, 2 do
  local values = redis.pcall('HMGET', KEYS[place], 'state', 'sent_at', 'submitted_at', 'priority',
    'requests', 'pairs', 'turn')
  if values['err'] then values = {} end
  found[#found + 1] = {redis.call('EXISTS', KEYS[place + 1]), values}
end
return found
