-- Stores that a job is split into parts.
--
-- Returns the stored digest and how the job is split: a job that was stored before may be split
-- differently, or not at all.
-- uses: clock
local job = KEYS[1]
local digest, split, ttl_s = unpack(ARGV)

local on_record = redis.call('HGET', job, 'digest')
if not on_record then
  local now = clock()
  redis.call('HSET', job, 'digest', digest, 'split', split, 'submitted_at', now)
  on_record = digest
end
local recorded_split = redis.call('HGET', job, 'split')
if recorded_split then redis.call('EXPIRE', job, ttl_s) end
return {on_record, recorded_split}
