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
-- A job whose message is not known to be on the queue yet loses the field, and waits for its own
-- message. If its producer died before it sent the message, the job must not use one of another job.
--
-- Returns the id of the job to start ('' for none), and its requests, pairs, priority and trace if it
-- is not the job that the message names.
-- uses: clock
local turns, job = KEYS[1], KEYS[2]
local id, prefix = unpack(ARGV)

-- Cancelled and unsent jobs are skipped, up to this number in one call.
local most_skipped = 1000

local function read(key)
  local found = redis.pcall('HMGET', key, 'state', 'turn', 'requests', 'pairs', 'priority', 'trace',
    'sent_at')
  return found['err'] and {} or found
end

-- Removes the next job from the list of its group.
local function take()
  for _ = 1, most_skipped do
    local group = redis.call('ZRANGE', turns, 0, 0)[1]
    if not group then return end
    local next = redis.call('LPOP', turns .. ':' .. group)
    if not next then
      redis.call('ZREM', turns, group)
    else
      local found = read(prefix .. next)
      if found[1] == 'queued' and found[2] == 'waits' then
        redis.call('ZINCRBY', turns, (tonumber(found[4]) or 0) + 1, group)
        if found[7] or next == id then return next, found end
        redis.call('HDEL', prefix .. next, 'turn')
      end
    end
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
