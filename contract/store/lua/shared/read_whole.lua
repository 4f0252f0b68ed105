-- Returns the state of a job, or 'missing', with its requests, pairs, start, end, attempts and code.
-- A start or an end that has not happened is 0. The last values are whether the job is split, and
-- whether its outcome can be read; without `outcome_prefix`, this is false.
--
-- A split job has failed as soon as one of its parts has, because the other parts are then of no use.
local function read_whole(job_prefix, outcome_prefix, name)
  local found = redis.pcall('HMGET', job_prefix .. name, 'state', 'requests', 'pairs', 'started_at',
    'ended_at', 'attempts', 'code', 'split')
  if found['err'] then return 'missing', 0, 0, 0, 0, 0, '', false, false end
  if not found[8] then
    local kept = outcome_prefix ~= '' and redis.call('EXISTS', outcome_prefix .. name) == 1
    return found[1] or 'missing', tonumber(found[2] or 0), tonumber(found[3] or 0),
      tonumber(found[4] or 0), tonumber(found[5] or 0), tonumber(found[6] or 0), found[7] or '',
      false, kept
  end
  local bounds = cjson.decode(found[8])['bounds']
  local states, pair_count, first, last, most, reason, all_kept = {}, 0, 0, 0, 0, '', true
  for place = 1, #bounds - 1 do
    local part = string.format('%s.%d-%d', name, bounds[place] + 1, bounds[place + 1])
    local state, _, pairs_, started, ended, attempts, code, _, kept =
      read_whole(job_prefix, outcome_prefix, part)
    states[state] = true
    pair_count = pair_count + pairs_
    if started > 0 and (first == 0 or started < first) then first = started end
    last = math.max(last, ended)
    most = math.max(most, attempts)
    if code ~= '' then reason = code end
    all_kept = all_kept and kept
  end
  local whole = 'done'
  for _, state in ipairs({'queued', 'missing', 'running', 'cancelled', 'failed'}) do
    if states[state] then whole = state end
  end
  if whole == 'missing' then whole = 'queued' end
  if whole == 'queued' and states['done'] then whole = 'running' end
  return whole, 1, pair_count, first, last, most, reason, true, all_kept
end
