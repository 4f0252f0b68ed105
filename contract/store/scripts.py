"""The state changes of a job, as Lua scripts.

Scripts, because each change depends on the state it finds: a job that has ended stays as it ended.

An attempt at a job has a token. The job's field `open` holds it while the attempt is under way, and
so does the lease, a key of its own that expires unless it is renewed. An attempt that ends clears
both; `open` without a lease is what an attempt leaves behind that died.

What is counted is counted with the change; a counter that cannot be written does not keep it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from contract.metrics import ATTEMPTS, DEATHS, JOBS_ACCEPTED
from contract.names import STEP_SPAN_S
from contract.store.operation import Operation

T = TypeVar("T")


def call(
    source: str,
    keys: Sequence[str],
    arguments: Sequence[str | bytes | int],
    read: Callable[[list[Any]], T],
) -> Operation[T]:
    """Return an operation that runs one of the scripts of this module."""
    return Operation(lambda pipe: pipe.eval(source, len(keys), *keys, *arguments), read)


#: Lua: the clock of the server, the one clock that all machines share.
_NOW = """
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
"""

#: Lua: whether the job has ended, and whether it is known at all: accepted, and not yet expired.
_ENDED = """
local state = redis.call('HGET', KEYS[1], 'state')
local ended = state == 'done' or state == 'failed' or state == 'cancelled'
"""

#: Lua: what a job that is done anew does not keep.
_FORGET_ATTEMPTS = """
local function forget_attempts()
  redis.call('HDEL', KEYS[1], 'code', 'message', 'started_at', 'ended_at', 'sent_at', 'attempts',
    'deaths', 'downgrade', 'open', 'silent_since')
end
"""

#: Lua: the score of a queued job.
_ORDER = f"""
local function order(priority, at)
  return math.floor(tonumber(priority or 0) / 3) * 3 * {STEP_SPAN_S} + at
end
"""

#: Lua: adds to a field of the hash of counters, KEYS[place].
_COUNT = f"""
local JOBS_ACCEPTED = '{JOBS_ACCEPTED.field()}'
local ATTEMPTS, DEATHS = '{ATTEMPTS.field()}', '{DEATHS.field()}'
local function count(place, field, more, ttl)
  redis.pcall('HINCRBYFLOAT', KEYS[place], field, more)
  redis.pcall('EXPIRE', KEYS[place], ttl)
end
"""

#: Lua: why no job is accepted ('queue' with its length, or 'memory' with the percentage in use), or
#: ''. The queue's lists are the keys from `place` on.
_FULL = """
local function full(place, max_queue, max_memory_percent)
  local waiting = 0
  for each = place, #KEYS do waiting = waiting + redis.call('LLEN', KEYS[each]) end
  if waiting >= tonumber(max_queue) then return 'queue', waiting end
  local info = redis.pcall('INFO', 'memory')
  if type(info) == 'string' then
    local used = tonumber(string.match(info, 'used_memory:(%d+)'))
    local most = tonumber(string.match(info, 'maxmemory:(%d+)')) or 0
    if most > 0 and used * 100 > most * tonumber(max_memory_percent) then
      return 'memory', math.min(100, math.floor(used * 100 / most))
    end
  end
  return '', 0
end
"""

#: KEYS job payload queued counters outcome dead, the queue's lists; ARGV id digest body pairs
#: requests priority payload_ttl job_ttl max_queue max_memory_percent. Puts an expired payload back;
#: a job that has ended, and whose outcome is gone, becomes a new one. Returns the digest on record,
#: whether the message is known to be sent, why the job is refused (see `full`), and how it is
#: split, if several others stand for it.
ACCEPT = (
    _NOW
    + _ENDED
    + _ORDER
    + _COUNT
    + _FULL
    + _FORGET_ATTEMPTS
    + """
local digest = redis.call('HGET', KEYS[1], 'digest')
local expired = ended and redis.call('EXISTS', KEYS[5]) == 0
if digest and not (expired and digest == ARGV[2]) then
  if not ended and digest == ARGV[2] then
    redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[7], 'NX')
  end
  local split = redis.call('HGET', KEYS[1], 'split')
  return {digest, redis.call('HEXISTS', KEYS[1], 'sent_at'), '', 0, split}
end
local refused, amount = full(7, ARGV[9], ARGV[10])
if refused ~= '' then return {ARGV[2], 0, refused, amount, false} end
redis.call('DEL', KEYS[5])
if digest then
  redis.call('ZREM', KEYS[6], ARGV[1])
  forget_attempts()
end
redis.call('HSET', KEYS[1], 'digest', ARGV[2], 'state', 'queued', 'pairs', ARGV[4],
  'requests', ARGV[5], 'priority', ARGV[6], 'submitted_at', now)
redis.call('EXPIRE', KEYS[1], ARGV[8])
redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[7])
redis.call('ZREMRANGEBYSCORE', KEYS[3], order(ARGV[6], 0), order(ARGV[6], time[1] - ARGV[8]))
redis.call('ZADD', KEYS[3], order(ARGV[6], now), ARGV[1])
redis.call('EXPIRE', KEYS[3], ARGV[8])
count(4, JOBS_ACCEPTED, 1, ARGV[8])
return {ARGV[2], 0, '', 0, false}
"""
)

#: KEYS job; ARGV digest split ttl. Returns the digest on record and how the job is split: a job
#: that is on record may be split in another way, or not at all.
ACCEPT_SPLIT = (
    _NOW
    + """
local digest = redis.call('HGET', KEYS[1], 'digest')
if not digest then
  redis.call('HSET', KEYS[1], 'digest', ARGV[1], 'split', ARGV[2], 'submitted_at', now)
  digest = ARGV[1]
end
local split = redis.call('HGET', KEYS[1], 'split')
if split then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
return {digest, split}
"""
)

#: KEYS job; no ARGV.
SENT = (
    _NOW
    + """
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'sent_at', now) end
return 1
"""
)

#: KEYS job queued running payload lease counters; ARGV id job_ttl token lease_ms grace_s
#: max_attempts. Returns 'unreadable' (its record is of another type), 'unknown' (it has none),
#: 'ended', 'held' (another attempt is under way), 'silent' (it may have died: to be asked again
#: after the grace), 'exhausted' or 'started'; the number of attempts, of those that died, why to
#: downgrade, the payload, and the state of a job that has ended. Asking twice with one token is
#: asking once.
START = (
    """
if type(redis.pcall('HGET', KEYS[1], 'state')) == 'table' then
  redis.pcall('ZREM', KEYS[2], ARGV[1])
  redis.pcall('ZREM', KEYS[3], ARGV[1])
  return {'unreadable', 0, 0, '', false}
end
"""
    + _NOW
    + _ENDED
    + _COUNT
    + """
if not state then return {'unknown', 0, 0, '', false} end
if ended then return {'ended', 0, 0, '', false, state} end
local attempts = tonumber(redis.call('HGET', KEYS[1], 'attempts') or 0)
local open = redis.call('HGET', KEYS[1], 'open')
local holder = redis.pcall('GET', KEYS[5])
if type(holder) == 'table' then
  redis.call('DEL', KEYS[5])
  holder = false
end
if holder and holder ~= ARGV[3] then return {'held', attempts, 0, '', false} end
if open and open ~= ARGV[3] then
  local since = redis.call('HGET', KEYS[1], 'silent_since')
  if not since then redis.call('HSET', KEYS[1], 'silent_since', now) end
  if not since or math.abs(now - since) < tonumber(ARGV[5]) then
    return {'silent', attempts, 0, '', false}
  end
  redis.call('HINCRBY', KEYS[1], 'deaths', 1)
  redis.call('HDEL', KEYS[1], 'open', 'silent_since')
  count(6, DEATHS, 1, ARGV[2])
end
local deaths = tonumber(redis.call('HGET', KEYS[1], 'deaths') or 0)
local reason = redis.call('HGET', KEYS[1], 'downgrade') or ''
if open ~= ARGV[3] then
  if attempts >= tonumber(ARGV[6]) then return {'exhausted', attempts, deaths, reason, false} end
  attempts = redis.call('HINCRBY', KEYS[1], 'attempts', 1)
  redis.call('HSET', KEYS[1], 'state', 'running', 'started_at', now, 'open', ARGV[3])
  count(6, ATTEMPTS, 1, ARGV[2])
end
redis.call('SET', KEYS[5], ARGV[3], 'PX', ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', time[1] - ARGV[2])
redis.call('ZADD', KEYS[3], now, ARGV[1])
redis.call('EXPIRE', KEYS[3], ARGV[2])
local payload = redis.pcall('GET', KEYS[4])
if type(payload) == 'table' then payload = '' end
return {'started', attempts, deaths, reason, payload}
"""
)

#: KEYS job lease; ARGV token lease_ms. Returns whether the attempt still counts. A lease that has
#: expired meanwhile, because Redis stood still, is taken again.
RENEW = (
    _ENDED
    + """
if ended or redis.call('HGET', KEYS[1], 'open') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
redis.call('HDEL', KEYS[1], 'silent_since')
return 1
"""
)

#: KEYS job lease queued running counters; ARGV id, how the token begins, why to downgrade, 1 if the
#: attempt died, job_ttl, then counters and what to add to them. The attempt is over, the job is
#: not. Returns whether it was that attempt's.
RELEASE = (
    _NOW
    + _ENDED
    + _ORDER
    + _COUNT
    + """
local open = redis.call('HGET', KEYS[1], 'open')
if ended or not open or string.sub(open, 1, #ARGV[2]) ~= ARGV[2] then return 0 end
if redis.call('GET', KEYS[2]) == open then redis.call('DEL', KEYS[2]) end
redis.call('HDEL', KEYS[1], 'open', 'silent_since')
redis.call('HSET', KEYS[1], 'state', 'queued', 'sent_at', now)
if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], 'downgrade', ARGV[3]) end
if ARGV[4] == '1' then
  redis.call('HINCRBY', KEYS[1], 'deaths', 1)
  count(5, DEATHS, 1, ARGV[5])
end
for place = 6, #ARGV, 2 do count(5, ARGV[place], ARGV[place + 1], ARGV[5]) end
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZADD', KEYS[3], order(redis.call('HGET', KEYS[1], 'priority'), now), ARGV[1])
redis.call('EXPIRE', KEYS[3], ARGV[5])
return 1
"""
)

#: KEYS job outcome payload queued running totals lease dead counters; ARGV id outcome state code
#: channel result_ttl job_ttl, how the token begins, the message of a dead letter, then counters and
#: what to add to them. Returns 1 if this outcome stands now, 0 if the job had ended before, has no
#: record, or another attempt than the token's is under way. The payload of a dead letter stays, to
#: be tried again.
FINISH = (
    _NOW
    + _ENDED
    + _COUNT
    + """
local open = redis.call('HGET', KEYS[1], 'open')
if ended or not state then return 0 end
if ARGV[8] ~= '' and open and string.sub(open, 1, #ARGV[8]) ~= ARGV[8] then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[6])
redis.call('HSET', KEYS[1], 'state', ARGV[3], 'code', ARGV[4], 'ended_at', now)
redis.call('HDEL', KEYS[1], 'open', 'silent_since')
redis.call('EXPIRE', KEYS[1], ARGV[7])
redis.call('DEL', KEYS[7])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('HINCRBY', KEYS[6], ARGV[3], 1)
redis.call('EXPIRE', KEYS[6], ARGV[7])
if ARGV[9] == '' then
  redis.call('DEL', KEYS[3])
else
  redis.call('HSET', KEYS[1], 'message', ARGV[9])
  redis.call('EXPIRE', KEYS[3], ARGV[7])
  redis.call('ZREMRANGEBYSCORE', KEYS[8], '-inf', time[1] - ARGV[7])
  redis.call('ZADD', KEYS[8], now, ARGV[1])
  redis.call('EXPIRE', KEYS[8], ARGV[7])
end
for place = 10, #ARGV, 2 do count(9, ARGV[place], ARGV[place + 1], ARGV[7]) end
redis.call('PUBLISH', ARGV[5], ARGV[1])
return 1
"""
)

#: KEYS the outcome and the job of each id. Returns for each the outcome, or '' if its key holds
#: something else, the state, and how the job is split, if several others stand for it.
OUTCOMES = """
local function field(key, name)
  local value = redis.pcall('HGET', key, name)
  return type(value) == 'string' and value
end
local found = {}
for place = 1, #KEYS, 2 do
  local outcome = redis.pcall('GET', KEYS[place])
  if type(outcome) == 'table' then outcome = '' end
  found[#found + 1] = {outcome, field(KEYS[place + 1], 'state'), field(KEYS[place + 1], 'split')}
end
return found
"""

#: KEYS job outcome payload dead; ARGV id, ttl of what stays. A dead letter is none afterwards:
#: without its payload it could not be tried again. A job that others stand for is removed: returns
#: how it was split.
FORGET = (
    _ENDED
    + """
if ended then
  redis.call('DEL', KEYS[2], KEYS[3])
  redis.call('ZREM', KEYS[4], ARGV[1])
  redis.call('HDEL', KEYS[1], 'message')
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
local split = redis.call('HGET', KEYS[1], 'split')
if split then redis.call('DEL', KEYS[1]) end
return split
"""
)

#: KEYS job outcome payload queued totals dead counters, the queue's lists; ARGV id digest body
#: payload_ttl job_ttl max_queue max_memory_percent. Returns 1 if the job is queued again, 0 if it
#: is no dead letter, and why it is refused: see `full`. One without a message is none any more: its
#: records have expired before its id, and another job may have taken it.
REQUEUE = (
    _NOW
    + _ORDER
    + _COUNT
    + _FULL
    + _FORGET_ATTEMPTS
    + """
if not redis.call('ZSCORE', KEYS[6], ARGV[1]) then return {0, '', 0} end
if redis.call('HEXISTS', KEYS[1], 'message') == 0 then
  redis.call('ZREM', KEYS[6], ARGV[1])
  return {0, '', 0}
end
local refused, amount = full(8, ARGV[6], ARGV[7])
if refused ~= '' then return {0, refused, amount} end
redis.call('ZREM', KEYS[6], ARGV[1])
redis.call('HINCRBY', KEYS[5], redis.call('HGET', KEYS[1], 'state'), -1)
forget_attempts()
redis.call('HSET', KEYS[1], 'digest', ARGV[2], 'state', 'queued', 'submitted_at', now)
redis.call('EXPIRE', KEYS[1], ARGV[5])
redis.call('DEL', KEYS[2])
redis.call('SET', KEYS[3], ARGV[3], 'EX', ARGV[4])
redis.call('ZADD', KEYS[4], order(redis.call('HGET', KEYS[1], 'priority'), now), ARGV[1])
redis.call('EXPIRE', KEYS[4], ARGV[5])
count(7, JOBS_ACCEPTED, 1, ARGV[5])
return {1, '', 0}
"""
)

#: KEYS counters; ARGV ttl, then counters and what to add to them. What belongs to no job.
ADD = (
    _COUNT
    + """
for place = 2, #ARGV, 2 do count(1, ARGV[place], ARGV[place + 1], ARGV[1]) end
return 1
"""
)

#: KEYS job payload dead; ARGV id. Returns 1 if it was a dead letter. Its outcome stays. A key that
#: is no job's record is removed: nothing else could be done with it.
DROP = """
if redis.call('ZREM', KEYS[3], ARGV[1]) == 0 then return 0 end
local is_letter = redis.pcall('HEXISTS', KEYS[1], 'message')
if is_letter == 0 then return 0 end
redis.call('DEL', KEYS[2])
if is_letter == 1 then redis.call('HDEL', KEYS[1], 'message') else redis.call('DEL', KEYS[1]) end
return 1
"""

#: KEYS dead, then the job and the payload of each letter; ARGV their ids. Returns for each when it
#: died, why its record cannot be read, the record, and whether its payload is there.
LETTERS = """
local found = {}
for place = 1, #ARGV do
  local record = redis.pcall('HGETALL', KEYS[2 * place])
  found[place] = {
    redis.call('ZSCORE', KEYS[1], ARGV[place]), record.err or '', record.err and {} or record,
    redis.call('EXISTS', KEYS[2 * place + 1])}
end
return found
"""

#: KEYS payload. Returns it, or '' if the key holds something else.
PAYLOAD = """
local payload = redis.pcall('GET', KEYS[1])
if type(payload) == 'table' then return '' end
return payload
"""

#: KEYS dead; ARGV job_ttl. Returns the number of dead letters whose records have not expired.
COUNT_LETTERS = (
    _NOW
    + """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', time[1] - ARGV[1])
return redis.call('ZCARD', KEYS[1])
"""
)

#: KEYS job and lease of each job. Returns of each whether it is leased, and its state, times,
#: priority and sizes; no values if the key is no record of a job.
JOB_STATES = """
local found = {}
for place = 1, #KEYS, 2 do
  local values = redis.pcall('HMGET', KEYS[place], 'state', 'sent_at', 'submitted_at', 'priority',
    'requests', 'pairs')
  if values['err'] then values = {} end
  found[#found + 1] = {redis.call('EXISTS', KEYS[place + 1]), values}
end
return found
"""
