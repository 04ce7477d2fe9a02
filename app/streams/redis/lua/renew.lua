-- Extend a lease. KEYS: log, meta. ARGV: token, lease in ms, time to live in ms.
-- Returns the lease's new end (ms since 1970), 0 when somebody else owns or closed the stream, -1 when it is not there.
local meta = redis.call('HMGET', KEYS[2], 'token', 'closed')
if not meta[1] then
  return -1
end
if meta[1] ~= ARGV[1] or meta[2] == '1' then
  return 0
end
local time = redis.call('TIME')
local deadline = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2]
redis.call('HSET', KEYS[2], 'lease', deadline)
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return deadline
