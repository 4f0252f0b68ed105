-- Reads which jobs that should wait for their turn are missing from the lists of their groups.
--
-- The arguments after the prefix of the jobs' keys are the ids. Each list is in the order of
-- submission, so a job is missing if the oldest one in the list was submitted later. Returns the
-- number of jobs in all lists, and 1 for each missing job, or else 0.
local turns = KEYS[1]
local prefix = ARGV[1]

local function read(id, field)
  local found = redis.pcall('HGET', prefix .. id, field)
  return type(found) == 'string' and found
end

local function submitted_at(id) return tonumber(read(id, 'submitted_at')) or 0 end

local function is_missing(id)
  local oldest = redis.call('LINDEX', turns .. ':' .. (read(id, 'group') or ''), 0)
  if not oldest then return 1 end
  return submitted_at(oldest) > submitted_at(id) and 1 or 0
end

local waiting, missing = 0, {}
for _, group in ipairs(redis.call('ZRANGE', turns, 0, -1)) do
  waiting = waiting + redis.call('LLEN', turns .. ':' .. group)
end
for place = 2, #ARGV do missing[place - 1] = is_missing(ARGV[place]) end
return {waiting, missing}
