-- Read a log past an offset, with its epoch and top as of the same moment.
-- KEYS: log, meta. ARGV: offset, an epoch in case it needs a new one, an epoch and an offset in it that were seen here.
-- Returns {epoch, top, messages, past} or nil.
succeed(KEYS[1], KEYS[2], ARGV[2], ARGV[3], ARGV[4])
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'top', 'past')
if not meta[1] then
  return false
end
local messages = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], string.format('%d-0', ARGV[1] + 1), '+')) do
  messages[#messages + 1] = entry[2][2]
end
return { meta[1], meta[2], messages, meta[3] or '' }
