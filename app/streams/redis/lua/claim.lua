-- Create a stream and own it, or say what is there.
-- KEYS: meta. ARGV: epoch, token, node, info, lease in ms, time to live in ms.
-- Returns the lease's end (ms since 1970) when created, else {epoch, top, closed, node, info}.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return redis.call('HMGET', KEYS[1], 'epoch', 'top', 'closed', 'node', 'info')
end
local time = redis.call('TIME')
local deadline = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[5]
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'token', ARGV[2], 'node', ARGV[3], 'info', ARGV[4],
  'top', 0, 'closed', 0, 'lease', deadline)
redis.call('PEXPIRE', KEYS[1], ARGV[6])
return deadline
