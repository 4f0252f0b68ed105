-- Returns the job's state (false if it was never accepted, or has expired) and whether it has ended.
local function read_state(job)
  local state = redis.call('HGET', job, 'state')
  return state, state == 'done' or state == 'failed' or state == 'cancelled'
end
