-- Count one more in each of several logs of moments, or in none of them.
-- KEYS: the logs, latest moment first. ARGV: for each its limit and its window in microseconds; 1 to count, 0 to look.
-- Returns for each: how many may be admitted now, the microseconds until one more may, and until this one may (0: it was).
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local waits, admitted = {}, ARGV[2 * #KEYS + 1] == '1'
for index, key in ipairs(KEYS) do
  local limit, window = tonumber(ARGV[2 * index - 1]), tonumber(ARGV[2 * index])
  -- A clock that was set back must not let anybody in early.
  local latest = tonumber(redis.call('LINDEX', key, 0) or 0)
  if latest > now then
    now = latest
  end
  local oldest = redis.call('LINDEX', key, limit - 1)
  waits[index] = 0
  if oldest and tonumber(oldest) + window > now then
    waits[index] = tonumber(oldest) + window - now
    admitted = false
  end
end
local counts = {}
for index, key in ipairs(KEYS) do
  local limit, window = tonumber(ARGV[2 * index - 1]), tonumber(ARGV[2 * index])
  if admitted then
    redis.call('LPUSH', key, string.format('%.0f', now))
    redis.call('LTRIM', key, 0, limit - 1)
    redis.call('PEXPIRE', key, math.ceil(window / 1000))
  end
  -- How many are within the window: they are the first ones of the log.
  local low, high = 0, math.min(redis.call('LLEN', key), limit)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if tonumber(redis.call('LINDEX', key, middle)) + window > now then
      low = middle + 1
    else
      high = middle
    end
  end
  local reset = 0
  if low > 0 then
    reset = tonumber(redis.call('LINDEX', key, low - 1)) + window - now
  end
  counts[#counts + 1] = limit - low
  counts[#counts + 1] = reset
  counts[#counts + 1] = waits[index]
end
return counts
