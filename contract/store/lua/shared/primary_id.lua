-- Returns the beginning of an id that changes when Redis restarts or another server becomes the
-- primary, or '' if it is unknown.
local function primary_id()
  local info = redis.pcall('INFO', 'replication')
  if type(info) ~= 'string' then return '' end
  return string.match(info, 'master_replid:(%x%x%x%x%x%x%x%x)') or ''
end
