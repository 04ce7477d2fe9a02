-- Reserve tokens from each of several budgets for a ticket, or from none of them.
-- KEYS: three of each budget. ARGV: ticket, least, most, time to live in ms; limit and window in microseconds of each.
-- Returns what was reserved and the microseconds to wait where it is 0, then each budget's level. With most 0 it only tells.
local ticket, least, most, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local budgets, amount, over = {}, most, false
for i = 1, #KEYS / 3 do
  local it = budget(3 * i - 2, tonumber(ARGV[4 + 2 * i]))
  it.free = tonumber(ARGV[3 + 2 * i]) - it.sum - it.held
  amount = math.min(amount, it.free)
  local state = redis.call('HGET', it.tickets, ticket)
  over = over or (state and not tonumber(state))
  budgets[i] = it
end
local answer = {0, 0}
if over then
  amount = 0
elseif amount < least or amount <= 0 then
  amount = 0
  for _, it in ipairs(budgets) do
    local missing, wait = least - it.free, 0
    if missing > 0 then
      wait = math.min(GUESS, it.window)
      for _, slice in ipairs(it.slices) do
        missing = missing - slice[2]
        if missing <= 0 then
          wait = leaves(it, slice[1])
          break
        end
      end
    end
    answer[2] = math.max(answer[2], wait)
  end
end
answer[1] = amount
for _, it in ipairs(budgets) do
  if amount > 0 then
    redis.call('HINCRBY', it.used, 'held', amount)
    redis.call('HINCRBY', it.tickets, ticket, amount)
    redis.call('ZADD', it.ends, string.format('%.0f', it.now + ttl * 1000), ticket)
    it.held = it.held + amount
    keep(it, ttl)
  end
  tell(answer, it)
end
return answer
