-- Publish by any of many writers: offset, log, announcement, in one step.
-- KEYS: log, meta. ARGV: data, how many to keep, time to live of the messages and of the position in ms, channel, an
-- epoch in case there is none. Returns the offset.
local epoch = redis.call('HGET', KEYS[2], 'epoch')
if not epoch then
  epoch = ARGV[6]
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[2], 'epoch', epoch)
end
local offset = redis.call('HINCRBY', KEYS[2], 'top', 1)
local message = epoch .. ' ' .. string.format('%d', offset) .. '\n' .. ARGV[1]
redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[2], string.format('%d-0', offset), 'b', message)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('PUBLISH', ARGV[5], message)
return offset
