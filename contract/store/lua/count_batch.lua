-- Counts jobs of a batch by state.
--
-- `names` are the ends of their ids. Returns the time, and the number of jobs, requests and pairs in
-- each state and without a record. The other values are the first start, the last end, the highest
-- number of attempts, the number of outcomes that can be read, and the code of a failure.
-- uses: clock, read_whole
local job_prefix, outcome_prefix, names = unpack(ARGV)

local states = {'queued', 'running', 'done', 'failed', 'cancelled', 'missing'}
local amounts = {}
for _, state in ipairs(states) do amounts[state] = {0, 0, 0} end
local first_start, last_end, most_attempts, kept, failure = false, 0, 0, 0, ''
for name in string.gmatch(names, '%S+') do
  local state, requests, pairs_, started, ended, attempts, code, _, readable =
    read_whole(job_prefix, outcome_prefix, name)
  local amount = amounts[state] or amounts['missing']
  amount[1] = amount[1] + 1
  amount[2] = amount[2] + requests
  amount[3] = amount[3] + pairs_
  if started > 0 and (not first_start or started < first_start) then first_start = started end
  last_end = math.max(last_end, ended)
  most_attempts = math.max(most_attempts, attempts)
  if readable then kept = kept + 1 end
  if state == 'failed' and failure == '' then failure = code end
end
local now = clock()
local listed = {}
for _, state in ipairs(states) do listed[#listed + 1] = amounts[state] end
local function time(value) return value and value > 0 and string.format('%.6f', value) or '' end
return {now, listed, time(first_start), time(last_end), most_attempts, kept, failure}
