-- A log with many writers goes on in its epoch only where nothing of it can have been lost. Which data a server has its
-- replication id tells: it is another one after a restart and after a failover, and a server that took over may lack
-- what its predecessor wrote last. So the log names the id under which it was written, and under another one it gets a
-- new epoch, in which all that is left of it is kept at its offsets: no listener finds other contents at an offset that
-- he has. What it had of the epochs before is its past ('<epoch> <last offset> …', latest first): who stands no further
-- goes on. Unless something was lost: that is known when a replica of the gateway has `seen` an offset of an epoch that
-- is not in the log. Then there is no past, and all who come are told of a gap, also those who went on already.
-- A log with one owner (it has a token) is left alone: he has all of it, and writes again what is missing.
-- Returns the log's epoch; false where there is none.
local PASTS = 8
local function succeed(log, meta, fresh, seen, offset)
  local found = redis.call('HMGET', meta, 'epoch', 'server', 'token', 'top', 'past')
  local epoch = found[1]
  if not epoch or found[3] then
    return epoch
  end
  local server = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
  if not found[2] then
    redis.call('HSET', meta, 'server', server)
    return epoch
  end
  local past, lost = {}, false
  local function carry(name, top)
    top = math.min(tonumber(top), tonumber(found[4] or 0))  -- It may have been cut short more than once.
    lost = lost or (name == seen and top < tonumber(offset))
    if #past < 2 * PASTS then
      past[#past + 1], past[#past + 2] = name, string.format('%d', top)
    end
  end
  if found[2] ~= server then
    carry(epoch, found[4] or 0)
  elseif not found[5] or not seen or seen == '' or seen == epoch then
    return epoch
  end
  for name, top in string.gmatch(found[5] or '', '(%S+) (%d+)') do
    carry(name, top)
  end
  if found[2] == server and not lost then
    return epoch
  end
  redis.call('HSET', meta, 'server', server, 'epoch', fresh, 'past', lost and '' or table.concat(past, ' '))
  local entries, ttl = redis.call('XRANGE', log, '-', '+'), redis.call('PTTL', log)
  redis.call('DEL', log)
  for _, entry in ipairs(entries) do
    local rest = string.match(entry[2][2], '^%S+( .*)$')
    redis.call('XADD', log, entry[1], 'b', fresh .. rest)
  end
  if ttl > 0 then
    redis.call('PEXPIRE', log, ttl)
  end
  return fresh
end
