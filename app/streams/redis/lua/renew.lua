-- Extend a lease. KEYS: log, meta. ARGV: token, lease in ms, time to live in ms, the last offset that its owner gave.
-- Returns {the lease's new end (ms since 1970), the log's last offset}, by which its owner learns what a failover lost;
-- 'closed' when its owner closed the stream, 'lost' when it was taken from him, 'gone' when it is not there.
local meta = redis.call('HMGET', KEYS[2], 'token', 'closed', 'top')
if not meta[1] then
  return redis.status_reply('gone')
end
if meta[1] ~= ARGV[1] then
  return redis.status_reply('lost')
end
if meta[2] == '1' then
  return redis.status_reply('closed')
end
local time = redis.call('TIME')
local deadline = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2]
redis.call('HSET', KEYS[2], 'lease', deadline)
if tonumber(meta[3]) >= tonumber(ARGV[4]) then
  -- All of it is here. Until then, should the owner die before he has written again what a failover lost, whoever ends
  -- the stream must see that this server may lack something.
  redis.call('HSET', KEYS[2], 'server', string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)'))
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return { deadline, tonumber(meta[3]) }
