-- Append a batch of its owner: fence check, log, announcement, in one step.
-- KEYS: log, meta. ARGV: token, channel, the command that announces, 1 to close, time to live in ms, first offset, last
-- offset, message.
-- Returns the last offset; 'lost' when somebody else owns or closed the stream, 'gone' when it is not there,
-- {top} when the batch is not the next one (as when its owner sends it again because he saw no answer).
local meta = redis.call('HMGET', KEYS[2], 'token', 'top', 'closed')
if not meta[1] then
  return redis.status_reply('gone')
end
if meta[1] ~= ARGV[1] then
  return redis.status_reply('lost')
end
if meta[2] + 1 ~= tonumber(ARGV[6]) then
  return { tonumber(meta[2]) }
end
if meta[3] == '1' then
  return redis.status_reply('lost')
end
redis.call('XADD', KEYS[1], ARGV[7] .. '-0', 'b', ARGV[8])
if ARGV[4] == '1' then
  redis.call('HSET', KEYS[2], 'top', ARGV[7], 'closed', 1)
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
else
  redis.call('HSET', KEYS[2], 'top', ARGV[7])
  if ARGV[6] == '1' then
    redis.call('PEXPIRE', KEYS[1], ARGV[5])
  end
end
redis.call(ARGV[3], ARGV[2], ARGV[8])
return tonumber(ARGV[7])
