-- Reads the outcomes of jobs; the keys are the outcome and the job of each.
--
-- Returns for each: the outcome, or '' if its key holds something else, the state, and how the job
-- is split, if it is.
local function field(key, name)
  local value = redis.pcall('HGET', key, name)
  return type(value) == 'string' and value
end

local found = {}
for place = 1, #KEYS, 2 do
  local outcome = redis.pcall('GET', KEYS[place])
  if type(outcome) == 'table' then outcome = '' end
  found[#found + 1] = {outcome, field(KEYS[place + 1], 'state'), field(KEYS[place + 1], 'split')}
end
return found
