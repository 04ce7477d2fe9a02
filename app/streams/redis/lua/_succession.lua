-- A log with many writers goes on in its epoch only where nothing of it can have been lost. Which data a server has its
-- replication id tells: it is another one after a restart and after a failover, and a server that took over may lack
-- what its predecessor wrote last. So the log names the id under which it was written, and under another one it gets a
-- new epoch, in which all that is left of it is kept at its offsets: no listener finds other contents at an offset that
-- he has. A log with one owner (it has a token) is left alone: he has all of it, and writes again what is missing.
-- Returns the log's epoch; false where there is none.
local function succeed(log, meta, fresh)
  local found = redis.call('HMGET', meta, 'epoch', 'server', 'token')
  if not found[1] or found[3] then
    return found[1]
  end
  local server = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
  if found[2] == server then
    return found[1]
  end
  redis.call('HSET', meta, 'server', server)
  if not found[2] then
    return found[1]
  end
  redis.call('HSET', meta, 'epoch', fresh)
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
