-- Reads the dead letters whose ids are the arguments; the keys after the first are the job and the
-- payload of each.
--
-- Returns for each: when it failed, why its record cannot be read, the record, and whether its
-- payload exists.
local dead = KEYS[1]

local found = {}
for place = 1, #ARGV do
  local record = redis.pcall('HGETALL', KEYS[2 * place])
  found[place] = {
    redis.call('ZSCORE', dead, ARGV[place]), record.err or '', record.err and {} or record,
    redis.call('EXISTS', KEYS[2 * place + 1])}
end
return found
