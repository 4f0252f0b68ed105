-- Chooses the job that a message from the queue starts, so that groups of jobs take turns.
--
-- A message names a job, but any job may be started in its place. The next job is the oldest of the
-- group that has had the least work. Work is counted in pairs, and one more for each job.
--
-- The field `turn` of a job is 'waits' while it waits in the list of its group. It becomes 'taken' if
-- the message of another job has started it; its own message then starts another job. It is removed
-- when its own message arrives, or if that message is the one that starts it. A message of a job
-- without the field starts that job, and so does a message of a job that was cancelled while it waited.
--
-- A job whose message is not known to be on the queue is not started by that of another job, which
-- would lack one if the producer has died. It keeps its place.
--
-- Returns the id of the job to start ('' for none), and its requests, pairs, priority and trace if it
-- is not the job that the message names.
-- uses: clock
local turns, job = KEYS[1], KEYS[2]
local id, prefix = unpack(ARGV)

-- Cancelled and unsent jobs are skipped, up to this number in one call, and groups without others.
local most_skipped, most_groups = 1000, 100

local function read(key)
  local found = redis.pcall('HMGET', key, 'state', 'turn', 'requests', 'pairs', 'priority', 'trace',
    'sent_at')
  return found['err'] and {} or found
end

-- Removes the next job from the list of a group, and returns how many may still be skipped.
local function take_from(group, skips)
  local list, place = turns .. ':' .. group, 0
  while skips > 0 do
    local next = redis.call('LINDEX', list, place)
    if not next then break end
    local found = read(prefix .. next)
    if found[1] ~= 'queued' or found[2] ~= 'waits' then
      redis.call('LREM', list, 1, next)
    elseif found[7] then
      redis.call('LREM', list, 1, next)
      redis.call('ZINCRBY', turns, (tonumber(found[4]) or 0) + 1, group)
      return skips, next, found
    else
      place = place + 1
    end
    skips = skips - 1
  end
  if redis.call('LLEN', list) == 0 then redis.call('ZREM', turns, group) end
  return skips
end

local function take()
  local skips, next, found = most_skipped, nil, nil
  for _, group in ipairs(redis.call('ZRANGE', turns, 0, most_groups - 1)) do
    skips, next, found = take_from(group, skips)
    if next or skips == 0 then return next, found end
  end
end

local named = read(job)
local state, turn, sent_at = named[1], named[2], named[7]
if not turn and (state == 'queued' or state == 'running') then return {id} end
-- Its producer has sent the message, but has not recorded it yet.
if turn == 'waits' and not sent_at then redis.call('HSET', job, 'sent_at', (clock())) end
if turn == 'waits' and state ~= 'queued' then
  -- A worker tells Flower that the job was cancelled.
  redis.call('HDEL', job, 'turn')
  redis.call('LREM', turns .. ':' .. (redis.call('HGET', job, 'group') or ''), 1, id)
  return {id}
end
local next, found = take()
if turn == 'taken' or turn == 'waits' and (next == id or not next) then
  redis.call('HDEL', job, 'turn')
end
if next == id then return {id} end
if not next then return {turn == 'taken' and '' or id} end
redis.call('HSET', prefix .. next, 'turn', 'taken')
return {next, tonumber(found[3]) or 0, tonumber(found[4]) or 0, tonumber(found[5]) or 0, found[6] or ''}
