-- Deletes images. KEYS: meta   ARGV: the URIs' digests of 16 bytes, end to end
-- Returns how many there were.
local base = string.sub(KEYS[1], 1, -5)
local deleted = 0
for at = 1, #ARGV[1], 16 do
  local slot = base .. 'uri:' .. string.sub(ARGV[1], at, at + 1)
  local field = string.sub(ARGV[1], at + 2, at + 15)
  local entry = redis.call('HGET', slot, field)
  if entry then
    local row = struct.unpack('<I4', entry)
    redis.call('SETBIT', base .. 'dead', row, 1)
    redis.call('UNLINK', base .. 'row:' .. row)
    redis.call('HDEL', slot, field)
    deleted = deleted + 1
  end
end
if deleted > 0 then
  redis.call('HINCRBY', KEYS[1], 'live', -deleted)
  redis.call('HINCRBY', KEYS[1], 'epoch', 1)
end
return deleted
