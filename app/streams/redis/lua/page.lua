-- Read a part of a log, with its epoch and top as of the same moment.
-- KEYS: log, meta. ARGV: offset (-1: none), how many at most (-1: all), 1 for newest first and before the offset,
-- an epoch in case it needs a new one.
-- Returns {epoch, top, batches, past} or nil. A batch may reach past what was asked for on either side.
succeed(KEYS[1], KEYS[2], ARGV[4])
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'top', 'past')
if not meta[1] then
  return false
end
local since, limit, batches = tonumber(ARGV[1]), tonumber(ARGV[2]), {}
local function take(entries)
  for _, entry in ipairs(entries) do
    batches[#batches + 1] = entry[2][2]
  end
end
local count = limit < 0 and {} or { 'COUNT', limit }
if limit == 0 or (ARGV[3] == '1' and since == 0) then
  return { meta[1], meta[2], batches, meta[3] or '' }
end
if ARGV[3] == '1' then
  local before = '+'
  if since >= 0 then
    before = string.format('(%d-0', since)
    take(redis.call('XRANGE', KEYS[1], string.format('%d-0', since), '+', 'COUNT', 1))
  end
  take(redis.call('XREVRANGE', KEYS[1], before, '-', unpack(count)))
else
  local after = since < 0 and '-' or string.format('%d-0', since + 1)
  take(redis.call('XRANGE', KEYS[1], after, '+', unpack(count)))
end
return { meta[1], meta[2], batches, meta[3] or '' }
