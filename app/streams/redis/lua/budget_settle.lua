-- End a reservation; what was used counts from now on. A second time changes nothing.
-- KEYS: three of each budget. ARGV: ticket, used, time to live in ms; window in microseconds of each.
local ticket, used, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
for i = 1, #KEYS / 3 do
  local it = budget(3 * i - 2, tonumber(ARGV[3 + i]))
  local state = redis.call('HGET', it.tickets, ticket)
  if state ~= '-' then
    local amount, slice = string.match(state or '', '^(%d+)@(%d+)$')
    if amount then
      if redis.call('HEXISTS', it.used, slice) == 1 then
        redis.call('HINCRBY', it.used, slice, used - amount)
      end
    else
      redis.call('HINCRBY', it.used, 'held', -(state or 0))
      redis.call('HINCRBY', it.used, it.slice, used)
    end
    redis.call('HSET', it.tickets, ticket, '-')
    redis.call('ZADD', it.ends, string.format('%.0f', it.now + ttl * 1000), ticket)
    keep(it, ttl)
  end
end
return 1
