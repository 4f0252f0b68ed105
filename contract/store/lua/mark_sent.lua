-- Records that the job's message is on the queue.
-- uses: clock
local job = KEYS[1]

if redis.call('EXISTS', job) == 1 then
  local now = clock()
  redis.call('HSET', job, 'sent_at', now)
end
return 1
