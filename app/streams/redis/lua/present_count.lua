-- How many are in a channel.
-- KEYS: infos, users, ends. Returns {clients, users}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, client in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now)) do
  redis.call('HDEL', KEYS[1], client)
  redis.call('HDEL', KEYS[2], client)
  redis.call('ZREM', KEYS[3], client)
end
local seen, users = {}, 0
for _, user in ipairs(redis.call('HVALS', KEYS[2])) do
  if not seen[user] then
    seen[user] = true
    users = users + 1
  end
end
return { redis.call('HLEN', KEYS[1]), users }
