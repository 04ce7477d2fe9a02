-- Append a batch of its owner: fence check, log, announcement, in one step.
-- KEYS: log, meta. ARGV: token, first offset, last offset, message, 1 to close, time to live in ms, channel.
-- Returns the last offset; 'lost' when somebody else owns or closed the stream, 'gone' when it is not there,
-- {top} when the batch is not the next one.
local meta = redis.call('HMGET', KEYS[2], 'token', 'top', 'closed')
if not meta[1] then
  return redis.status_reply('gone')
end
if meta[1] ~= ARGV[1] or meta[3] == '1' then
  return redis.status_reply('lost')
end
if meta[2] + 1 ~= tonumber(ARGV[2]) then
  return { tonumber(meta[2]) }
end
redis.call('XADD', KEYS[1], ARGV[3] .. '-0', 'b', ARGV[4])
redis.call('HSET', KEYS[2], 'top', ARGV[3], 'closed', ARGV[5])
if ARGV[5] == '1' then
  redis.call('PEXPIRE', KEYS[2], ARGV[6])
  redis.call('PEXPIRE', KEYS[1], ARGV[6])
elseif ARGV[2] == '1' then
  redis.call('PEXPIRE', KEYS[1], ARGV[6])
end
redis.call('PUBLISH', ARGV[7], ARGV[4])
return tonumber(ARGV[3])
