-- Returns the score of a queued job, which sorts by priority step, then by time.
local function queue_score(priority, at)
  return math.floor(tonumber(priority or 0) / 3) * 3 * STEP_SPAN_S + at
end
