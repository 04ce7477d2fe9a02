-- Read marks that were added since a number of an era. Returns era, number read to, and mark, "before ends" of each.
-- KEYS: times, numbers, ends, counter. ARGV: era ('' for none), number, at most so many, an era's name.
redis.call('HSETNX', KEYS[4], 'era', ARGV[4])
local era, top = unpack(redis.call('HMGET', KEYS[4], 'era', 'number'))
top = tonumber(top or 0)
local read = 0
if era == ARGV[1] then read = tonumber(ARGV[2]) end
if read >= top then return {era, top, {}} end
local found = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. read, '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
local flat = {}
for i = 1, #found, 2 do
  flat[#flat + 1] = found[i]
  flat[#flat + 1] = redis.call('HGET', KEYS[1], found[i])
  read = tonumber(found[i + 1])
end
if #found == 0 then read = top end
return {era, read, flat}
