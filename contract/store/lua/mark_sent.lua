-- Records that the messages of jobs are on the queue.
-- uses: clock
local now = clock()
for _, job in ipairs(KEYS) do
  if redis.call('EXISTS', job) == 1 then redis.call('HSET', job, 'sent_at', now) end
end
return 1
