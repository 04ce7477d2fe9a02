-- Publish by any of many writers: offset, log, announcement, in one step.
-- KEYS: log, meta, version, result of the idempotency key. ARGV: data, how many to keep (0: none, and no offset), time
-- to live of the messages and of the position in ms, channel, an epoch in case there is none, time to live of the
-- result in ms (0: no idempotency key), version (decimal, or empty), its epoch, the command that announces, an epoch and
-- an offset in it that were seen here.
-- Returns {offset, epoch, 1 if nothing was published}.
local function newer(one, other)
  -- A version has 64 bits and a number here 53: compare the digits.
  return #one > #other or (#one == #other and one > other)
end
local function touch()
  -- Who waits for copies waits for what his own connection wrote: this stands for what he is told of.
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
if ARGV[7] ~= '0' then
  local first = redis.call('HMGET', KEYS[4], 'offset', 'epoch')
  if first[1] then
    touch()
    return { tonumber(first[1]), first[2], 1 }
  end
end
if ARGV[8] ~= '' then
  local last = redis.call('HMGET', KEYS[3], 'version', 'epoch')
  if last[1] and (ARGV[9] == '' or ARGV[9] == last[2]) and not newer(ARGV[8], last[1]) then
    touch()
    local meta = redis.call('HMGET', KEYS[2], 'top', 'epoch')
    return { tonumber(meta[1] or 0), meta[2] or '', 1 }
  end
  redis.call('HSET', KEYS[3], 'version', ARGV[8], 'epoch', ARGV[9])
  redis.call('PEXPIRE', KEYS[3], ARGV[4])
end
local offset, epoch, message = 0, '', '- 0\n' .. ARGV[1]
if ARGV[2] ~= '0' then
  epoch = succeed(KEYS[1], KEYS[2], ARGV[6], ARGV[11], ARGV[12])
  if not epoch then
    epoch = ARGV[6]
    redis.call('HSET', KEYS[2], 'epoch', epoch)
    redis.call('DEL', KEYS[1])  -- Not first: a script that has deleted something may write on when memory is full.
    succeed(KEYS[1], KEYS[2], epoch)
  end
  offset = redis.call('HINCRBY', KEYS[2], 'top', 1)
  message = epoch .. ' ' .. string.format('%d', offset) .. '\n' .. ARGV[1]
  redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[2], string.format('%d-0', offset), 'b', message)
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
if ARGV[7] ~= '0' then
  redis.call('HSET', KEYS[4], 'offset', string.format('%d', offset), 'epoch', epoch)
  redis.call('PEXPIRE', KEYS[4], ARGV[7])
end
redis.call(ARGV[10], ARGV[5], message)
return { offset, epoch, 0 }
