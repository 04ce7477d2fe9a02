-- Keep what a process holds. KEYS: holders, the process's own. ARGV: node, incarnation, time to live in ms, sum of counts.
-- Returns 1; 0 when it is not there, or is not what the process thinks.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local own = redis.call('HMGET', KEYS[2], '', '#')
if own[1] ~= ARGV[2] or own[2] ~= ARGV[4] or not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
