-- Enter a stream into the list of leases unless it is there. KEYS: leases. ARGV: stream, lease in ms.
-- It is called before the stream is claimed: one who dies between the two leaves an entry that is soon swept away,
-- never a stream that nobody watches.
local time = redis.call('TIME')
return redis.call('ZADD', KEYS[1], 'NX', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2], ARGV[1])
