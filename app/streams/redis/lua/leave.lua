-- Take a client out of a channel.
-- KEYS: infos, users, ends. ARGV: client.
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
