-- Deletes images. KEYS: meta   ARGV: uri_bits, the URIs' digests of 14 bytes, end to end
-- Returns how many there were.
local base = string.sub(KEYS[1], 1, -5)
local shift = 2 ^ (24 - ARGV[1])
local deleted = {}
for at = 1, #ARGV[2], 14 do
  local slot = base .. 'uri:' .. math.floor(struct.unpack('>I3', ARGV[2], at) / shift)
  local field = string.sub(ARGV[2], at + 3, at + 13)
  local entry = redis.call('HGET', slot, field)
  if entry then
    local row = struct.unpack('<I4', entry)
    local block, place = math.floor(row / 64), row % 64
    local vectors = base .. 'vectors:' .. block
    local width = redis.call('STRLEN', vectors) / 64
    redis.call('SETRANGE', vectors, place * width, string.rep('\0', width))
    redis.call('LSET', base .. 'records:' .. block, place, '')
    redis.call('HDEL', slot, field)
    deleted[#deleted + 1] = struct.pack('<I4', row)
  end
end
if #deleted > 0 then
  redis.call('APPEND', base .. 'dead', table.concat(deleted))
  redis.call('HINCRBY', KEYS[1], 'live', -#deleted)
  redis.call('HINCRBY', KEYS[1], 'epoch', 1)
end
return #deleted
