-- Returns the number of pairs of the jobs in a set of live jobs.
--
-- If the set has more than `sample` jobs, this is an estimate from about that many, in blocks that
-- are spread evenly over it. Otherwise it is exact.
local live = KEYS[1]
local prefix, sample = unpack(ARGV)

local most_blocks = 20
local job_count = redis.call('ZCARD', live)
local blocks, size = 1, job_count
if job_count > tonumber(sample) then
  blocks, size = most_blocks, math.ceil(sample / most_blocks)
end
local seen, pair_count = 0, 0
for block = 0, blocks - 1 do
  local first = math.floor(block * (job_count - size) / math.max(1, blocks - 1))
  for _, id in ipairs(redis.call('ZRANGE', live, first, first + size - 1)) do
    local found = redis.pcall('HGET', prefix .. id, 'pairs')
    seen = seen + 1
    pair_count = pair_count + (type(found) == 'string' and tonumber(found) or 0)
  end
end
if seen == 0 then return 0 end
return math.floor(pair_count / seen * job_count + 0.5)
