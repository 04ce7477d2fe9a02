-- Give a channel with many writers an epoch before anything is published to it.
-- KEYS: log, meta. ARGV: an epoch in case there is none, how long it is kept in ms.
-- Returns nothing.
if not redis.call('HGET', KEYS[2], 'epoch') then
  redis.call('HSET', KEYS[2], 'epoch', ARGV[1], 'top', 0)
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
  succeed(KEYS[1], KEYS[2], ARGV[1])
end
