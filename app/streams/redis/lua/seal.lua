-- Close a stream whose owner let the lease run out. The token goes, so that he learns of it when he comes back.
-- KEYS: log, meta. ARGV: the top it must have, last messages, a line each, retention in ms, channel, the command that
-- announces, an epoch in case it needs a new one (nobody is left to write again what a failover lost), how many messages.
-- Returns 1 when sealed.
local meta = redis.call('HMGET', KEYS[2], 'top', 'closed', 'lease')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if not meta[1] or meta[1] ~= ARGV[1] or meta[2] == '1' or now < tonumber(meta[3]) then
  return 0
end
redis.call('HDEL', KEYS[2], 'token')
local epoch = succeed(KEYS[1], KEYS[2], ARGV[6])
local last = string.format('%d', meta[1] + ARGV[7])
local message = epoch .. ' ' .. string.format('%d', meta[1] + 1) .. '\n' .. ARGV[2]
redis.call('XADD', KEYS[1], last .. '-0', 'b', message)
redis.call('HSET', KEYS[2], 'top', last, 'closed', 1, 'token', '')
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call(ARGV[5], ARGV[4], message)
return 1
