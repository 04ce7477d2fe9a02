-- Add a mark, or move its times later. Returns 1; 0 when there is no room.
-- KEYS: times, numbers, ends, counter. ARGV: mark, before, ends (seconds since 1970), limit, an era's name.
local now = tonumber(redis.call('TIME')[1])
for _, mark in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 1000)) do
  redis.call('HDEL', KEYS[1], mark)
  redis.call('ZREM', KEYS[2], mark)
  redis.call('ZREM', KEYS[3], mark)
end
local before, ends = ARGV[2], ARGV[3]
local standing = redis.call('HGET', KEYS[1], ARGV[1])
if standing then
  local b, e = string.match(standing, '^(%S+) (%S+)$')
  if tonumber(b) > tonumber(before) then before = b end
  if tonumber(e) > tonumber(ends) then ends = e end
elseif redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then
  return 0
end
redis.call('HSETNX', KEYS[4], 'era', ARGV[5])
local number = redis.call('HINCRBY', KEYS[4], 'number', 1)
redis.call('HSET', KEYS[1], ARGV[1], before .. ' ' .. ends)
redis.call('ZADD', KEYS[2], number, ARGV[1])
redis.call('ZADD', KEYS[3], ends, ARGV[1])
return 1
