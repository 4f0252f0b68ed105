-- Returns a payload, or '' if its key holds something else.
local payload = redis.pcall('GET', KEYS[1])
if type(payload) == 'table' then return '' end
return payload
