-- Deletes images. KEYS: meta   ARGV: uri_bits, bytes of a vector, the URIs' digests of 14 bytes, end
-- to end. Returns how many there were.
local base = string.sub(KEYS[1], 1, -5)
local shift = 2 ^ (24 - ARGV[1])
local rows = {}
for at = 1, #ARGV[3], 14 do
  local hash = base .. 'uris:' .. math.floor(struct.unpack('>I3', ARGV[3], at) / shift)
  local field = string.sub(ARGV[3], at + 3, at + 13)
  local entry = redis.call('HGET', hash, field)
  if entry then
    redis.call('HDEL', hash, field)
    rows[#rows + 1] = struct.unpack('<I4', entry)
  end
end
if #rows > 0 then
  bury(base, rows, tonumber(ARGV[2]))
  redis.call('APPEND', base .. 'dead', struct.pack('<' .. string.rep('I4', #rows), unpack(rows)))
  redis.call('HINCRBY', KEYS[1], 'live', -#rows)
  redis.call('HINCRBY', KEYS[1], 'epoch', 1)
end
return #rows
