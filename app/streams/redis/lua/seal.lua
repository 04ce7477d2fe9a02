-- Close a stream whose owner let the lease run out. The token goes, so that he learns of it when he comes back.
-- KEYS: log, meta. ARGV: the top it must have, message, retention in ms, channel. Returns 1 when sealed.
local meta = redis.call('HMGET', KEYS[2], 'top', 'closed', 'lease')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if not meta[1] or meta[1] ~= ARGV[1] or meta[2] == '1' or now < tonumber(meta[3]) then
  return 0
end
local last = string.format('%d', meta[1] + 1)
redis.call('XADD', KEYS[1], last .. '-0', 'b', ARGV[2])
redis.call('HSET', KEYS[2], 'top', last, 'closed', 1, 'token', '')
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PUBLISH', ARGV[4], ARGV[2])
return 1
