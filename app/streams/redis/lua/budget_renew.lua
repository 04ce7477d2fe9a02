-- Keep a reservation that is open. KEYS: three of each budget. ARGV: ticket, time to live in ms; window in microseconds of each.
local ticket, ttl = ARGV[1], tonumber(ARGV[2])
for i = 1, #KEYS / 3 do
  local it = budget(3 * i - 2, tonumber(ARGV[2 + i]))
  if tonumber(redis.call('HGET', it.tickets, ticket) or '') then
    redis.call('ZADD', it.ends, string.format('%.0f', it.now + ttl * 1000), ticket)
    keep(it, ttl)
  end
end
return 1
