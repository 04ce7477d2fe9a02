-- Where logs stand. KEYS: metas. Returns for each {epoch, top}, with nils where there is no log.
local positions = {}
for i, meta in ipairs(KEYS) do
  positions[i] = redis.call('HMGET', meta, 'epoch', 'top')
end
return positions
