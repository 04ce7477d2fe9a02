-- Free slots, then take some for each who wants them: one of each subject, or none at all.
-- KEYS: holders, the process's own. The other processes' keys have the same hash tag and are found by the holders.
-- ARGV: prefix of the processes' keys, node, incarnation, time to live in ms, how many subjects are freed, subject and
-- count of each; then for each who wants: how many subjects, subject and limit of each.
-- Returns for each who wants the subject that has no slot left, '' when they were taken; nil for a strange incarnation.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local own = KEYS[2]
if redis.call('HGET', own, '') ~= ARGV[3] or not redis.call('ZSCORE', KEYS[1], ARGV[2]) then
  return false
end
local i = 6
for _ = 1, tonumber(ARGV[5]) do
  if redis.call('HINCRBY', own, ARGV[i], -ARGV[i + 1]) <= 0 then
    redis.call('HDEL', own, ARGV[i])
  end
  redis.call('HINCRBY', own, '#', -ARGV[i + 1])
  i = i + 2
end
local holders = redis.call('ZRANGE', KEYS[1], 0, -1)
local counts = {}
local function count(subject)
  local sum = counts[subject]
  if not sum then
    sum = 0
    for _, holder in ipairs(holders) do
      sum = sum + (redis.call('HGET', ARGV[1] .. holder, subject) or 0)
    end
    counts[subject] = sum
  end
  return sum
end
local answers = {}
while i <= #ARGV do
  local last = i + 2 * ARGV[i]
  local refused = ''
  for j = i + 1, last, 2 do
    if count(ARGV[j]) >= tonumber(ARGV[j + 1]) then
      refused = ARGV[j]
      break
    end
  end
  if refused == '' then
    for j = i + 1, last, 2 do
      redis.call('HINCRBY', own, ARGV[j], 1)
      redis.call('HINCRBY', own, '#', 1)
      counts[ARGV[j]] = counts[ARGV[j]] + 1
    end
  end
  answers[#answers + 1] = refused
  i = last + 1
end
redis.call('PEXPIRE', own, ARGV[4])
redis.call('ZADD', KEYS[1], now + ARGV[4], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return answers
