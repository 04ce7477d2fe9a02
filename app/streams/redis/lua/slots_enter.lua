-- Say what a process holds.
-- KEYS: holders, the process's own. ARGV: node, incarnation, time to live in ms, 1 to begin anew or 0 to add, then
-- subject and count of each. The field '' holds the incarnation, '#' the sum of all counts.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[4] == '1' then
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], '', ARGV[2], '#', 0)
elseif redis.call('HGET', KEYS[2], '') ~= ARGV[2] then
  return 0
end
local sum = 0
for i = 5, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  sum = sum + ARGV[i + 1]
end
redis.call('HINCRBY', KEYS[2], '#', sum)
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
