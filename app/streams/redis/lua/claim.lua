-- Create a stream and own it, or say what is there.
-- KEYS: log, meta. ARGV: epoch, token, node, info, lease in ms, time to live in ms.
-- Returns 1 when created, else {epoch, top, closed, node, info, past}.
if redis.call('EXISTS', KEYS[2]) == 1 then
  return redis.call('HMGET', KEYS[2], 'epoch', 'top', 'closed', 'node', 'info', 'past')
end
local time = redis.call('TIME')
local deadline = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[5]
local server = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
redis.call('HSET', KEYS[2], 'epoch', ARGV[1], 'token', ARGV[2], 'node', ARGV[3], 'info', ARGV[4],
  'top', 0, 'closed', 0, 'lease', deadline, 'server', server)
redis.call('DEL', KEYS[1])  -- Not first: a script that has deleted something may write on when memory is full.
redis.call('PEXPIRE', KEYS[2], ARGV[6])
return 1
