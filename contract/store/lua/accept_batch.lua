-- Stores which jobs are the parts of a batch, and adds it to the list of batches.
--
-- Returns the stored digest, the time of the first submission, and whether this is it. A batch that is submitted again is
-- no longer cancelled. If the list cannot be written, the batch is stored without it.
-- uses: clock
local batch, batches = unpack(KEYS)
local id, digest, split, label, pair_count, ttl_s, most_listed = unpack(ARGV)

local now, seconds = clock()
local on_record = redis.call('HGET', batch, 'digest')
if on_record and on_record ~= digest then return {on_record, '0', 0} end
if not on_record then
  redis.call('HSET', batch, 'digest', digest, 'split', split, 'submitted_at', now, 'pairs',
    pair_count)
  if label ~= '' then redis.call('HSET', batch, 'label', label) end
end
redis.call('HDEL', batch, 'cancelled_at', 'queued_at', 'counts')
redis.call('HSET', batch, 'alive_at', now)
redis.call('EXPIRE', batch, ttl_s)
local submitted_at = redis.call('HGET', batch, 'submitted_at')
redis.pcall('ZREMRANGEBYSCORE', batches, '-inf', seconds - ttl_s)
redis.pcall('ZADD', batches, submitted_at, id)
redis.pcall('ZREMRANGEBYRANK', batches, 0, -1 - most_listed)
redis.pcall('EXPIRE', batches, ttl_s)
return {digest, submitted_at, on_record and 0 or 1}
