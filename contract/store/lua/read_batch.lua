-- Reads the states of jobs of a batch.
--
-- `names` are the ends of their ids; `wanted` is 'ended', for those that have ended or have no
-- record, or 'open', for the others. Returns five values for each: its place among the names, from
-- 1, its state, the time of its end, the number of attempts, and whether it is split.
-- uses: read_whole
local job_prefix, outcome_prefix, names, wanted = unpack(ARGV)

local found, place = {}, 0
for name in string.gmatch(names, '%S+') do
  place = place + 1
  local state, _, _, _, ended, attempts, _, split = read_whole(job_prefix, outcome_prefix, name)
  local open = state == 'queued' or state == 'running'
  if open == (wanted == 'open') then
    found[#found + 1] = place
    found[#found + 1] = state
    found[#found + 1] = string.format('%.6f', ended)
    found[#found + 1] = attempts
    found[#found + 1] = split and 1 or 0
  end
end
return found
