-- A budget is three keys: a hash of what was used, by slices of its window, with 'held' (the sum of open reservations)
-- and 'now' (the latest moment seen); a hash of what each ticket is (an amount: open; '-': settled; '<amount>@<slice>':
-- left by its process, and counted as used in that slice); and when each ticket ends.
local SLICES = 60
local GUESS = 1000000
local time = redis.call('TIME')
local clock = tonumber(time[1]) * 1000000 + tonumber(time[2])
-- Return the budget at KEYS[at] as it is now: what left the window is gone, and what nobody renewed is used.
local function budget(at, window)
  local it = {used = KEYS[at], tickets = KEYS[at + 1], ends = KEYS[at + 2], window = window, slices = {}, sum = 0}
  -- A clock that was set back must not let anything come back early.
  it.now = math.max(clock, tonumber(redis.call('HGET', it.used, 'now') or 0))
  it.length = window / SLICES
  it.slice = string.format('%.0f', math.floor(it.now / it.length))
  for _, ticket in ipairs(redis.call('ZRANGEBYSCORE', it.ends, '-inf', string.format('%.0f', it.now), 'LIMIT', 0, 1000)) do
    local amount = tonumber(redis.call('HGET', it.tickets, ticket) or '')
    if amount then
      redis.call('HINCRBY', it.used, 'held', -amount)
      redis.call('HINCRBY', it.used, it.slice, amount)
      redis.call('HSET', it.tickets, ticket, string.format('%.0f@%s', amount, it.slice))
      redis.call('ZADD', it.ends, string.format('%.0f', it.now + window), ticket)
    else
      redis.call('HDEL', it.tickets, ticket)
      redis.call('ZREM', it.ends, ticket)
    end
  end
  local first = math.floor((it.now - window) / it.length)
  local fields = redis.call('HGETALL', it.used)
  it.held = 0
  for i = 1, #fields, 2 do
    local number, value = tonumber(fields[i]), tonumber(fields[i + 1])
    if fields[i] == 'held' then
      it.held = value
    elseif number and number < first then
      redis.call('HDEL', it.used, fields[i])
    elseif number and value ~= 0 then
      it.sum = it.sum + value
      it.slices[#it.slices + 1] = {number, value}
    end
  end
  table.sort(it.slices, function(one, other) return one[1] < other[1] end)
  return it
end
-- The moment from which on slice `number` does not count.
local function leaves(it, number)
  return math.ceil((number + 1) * it.length + it.window - it.now)
end
-- Add its level to an answer: used, held, microseconds until nothing of it counts.
local function tell(answer, it)
  answer[#answer + 1] = it.sum
  answer[#answer + 1] = it.held
  answer[#answer + 1] = #it.slices > 0 and leaves(it, it.slices[#it.slices][1]) or 0
end
-- Write down the moment, and keep its keys for as long as anything of them counts; ttl is that of reservations, in ms.
local function keep(it, ttl)
  redis.call('HSET', it.used, 'now', string.format('%.0f', it.now))
  local time = math.ceil(it.window / 500) + ttl + 1000
  redis.call('PEXPIRE', it.used, time)
  redis.call('PEXPIRE', it.tickets, time)
  redis.call('PEXPIRE', it.ends, time)
end
