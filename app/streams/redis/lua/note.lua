-- Replace what the record of a stream says, by its owner alone. KEYS: log, meta. ARGV: token, info. Returns 1 when done.
local meta = redis.call('HMGET', KEYS[2], 'token', 'closed')
if meta[1] ~= ARGV[1] or meta[2] == '1' then
  return 0
end
redis.call('HSET', KEYS[2], 'info', ARGV[2])
return 1
