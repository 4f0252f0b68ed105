-- Adds a bulk job to those of its group that wait for their turn: see `take_turn`. `prefix` is the
-- beginning of the keys of the groups.
--
-- A group that joins does not make up for the time when it had no jobs. Without the permission to
-- write the groups, the queue is first in, first out.
local function join_turns(prefix, job, id, priority, group, ttl_s)
  local step = math.floor(tonumber(priority or 0) / 3) * 3
  if step < FIRST_SHARED_STEP then return end
  local turns = prefix .. step
  local list = turns .. ':' .. group
  local length = redis.pcall('RPUSH', list, id)
  if type(length) == 'table' then return end
  redis.call('EXPIRE', list, ttl_s)
  if not redis.call('ZSCORE', turns, group) then
    local first = redis.call('ZRANGE', turns, 0, 0, 'WITHSCORES')
    redis.call('ZADD', turns, first[2] or 0, group)
  end
  redis.call('EXPIRE', turns, ttl_s)
  redis.call('HSET', job, 'group', group, 'turn', 'waits')
end
