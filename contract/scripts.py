"""The state changes of a job, as Lua scripts.

Scripts, because each change depends on the state it finds: a job that has ended stays as it ended.
"""

#: Lua: the clock of the server, the one clock that all machines share.
_NOW = """
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
"""

#: Lua: whether the job has ended.
_ENDED = """
local state = redis.call('HGET', KEYS[1], 'state')
local ended = state == 'done' or state == 'failed' or state == 'cancelled'
"""

#: KEYS job payload queued; ARGV id digest body pairs requests payload_ttl job_ttl.
#: Puts an expired payload back. Returns the digest on record, and whether the message is known to
#: be sent.
ACCEPT = (
    _NOW
    + _ENDED
    + """
local digest = redis.call('HGET', KEYS[1], 'digest')
if digest then
  if not ended and digest == ARGV[2] then
    redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[6], 'NX')
  end
  return {digest, redis.call('HEXISTS', KEYS[1], 'sent_at')}
end
redis.call('HSET', KEYS[1], 'digest', ARGV[2], 'state', 'queued', 'pairs', ARGV[4],
  'requests', ARGV[5], 'submitted_at', now)
redis.call('EXPIRE', KEYS[1], ARGV[7])
redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[6])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', time[1] - ARGV[7])
redis.call('ZADD', KEYS[3], now, ARGV[1])
redis.call('EXPIRE', KEYS[3], ARGV[7])
return {ARGV[2], 0}
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

#: KEYS job queued running payload; ARGV id job_ttl. Returns the number of this attempt, 0 if it has
#: ended, and the payload.
START = (
    _NOW
    + _ENDED
    + """
if ended then return {0, false} end
redis.call('HSET', KEYS[1], 'state', 'running', 'started_at', now)
local attempt = redis.call('HINCRBY', KEYS[1], 'attempts', 1)
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', time[1] - ARGV[2])
redis.call('ZADD', KEYS[3], now, ARGV[1])
redis.call('EXPIRE', KEYS[3], ARGV[2])
return {attempt, redis.call('GET', KEYS[4])}
"""
)

#: KEYS job outcome payload queued running totals; ARGV id outcome state code channel result_ttl
#: job_ttl. Returns 1 if this outcome stands now, 0 if the job had ended before.
FINISH = (
    _NOW
    + _ENDED
    + """
if ended then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[6])
redis.call('HSET', KEYS[1], 'state', ARGV[3], 'code', ARGV[4], 'ended_at', now)
redis.call('EXPIRE', KEYS[1], ARGV[7])
redis.call('DEL', KEYS[3])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('HINCRBY', KEYS[6], ARGV[3], 1)
redis.call('EXPIRE', KEYS[6], ARGV[7])
redis.call('PUBLISH', ARGV[5], ARGV[1])
return 1
"""
)

#: KEYS job outcome; ARGV ttl of what stays.
FORGET = (
    _ENDED
    + """
if ended then
  redis.call('DEL', KEYS[2])
  redis.call('EXPIRE', KEYS[1], ARGV[1])
end
return 1
"""
)
