-- Own a stream whose owner let the lease run out. With the old token gone he can write no more.
-- KEYS: log, meta. ARGV: the top it must have, token, node, lease in ms, time to live in ms, an epoch in case it needs a
-- new one: what a failover lost, its old owner alone had. Returns {epoch, the lease's end (ms since 1970), info, past} or
-- nil.
local meta = redis.call('HMGET', KEYS[2], 'top', 'closed', 'lease', 'info')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if not meta[1] or meta[1] ~= ARGV[1] or meta[2] == '1' or now < tonumber(meta[3]) then
  return false
end
redis.call('HDEL', KEYS[2], 'token')
local epoch = succeed(KEYS[1], KEYS[2], ARGV[6])
redis.call('HSET', KEYS[2], 'token', ARGV[2], 'node', ARGV[3], 'lease', now + ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return { epoch, now + ARGV[4], meta[4], redis.call('HGET', KEYS[2], 'past') or '' }
