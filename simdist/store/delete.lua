-- Deletes images. KEYS: meta   ARGV: uri_bits, the URIs' digests of 14 bytes, end to end
-- Returns how many there were.
local base = string.sub(KEYS[1], 1, -5)
local shift = 2 ^ (24 - ARGV[1])
local deleted = {}
for at = 1, #ARGV[2], 14 do
  local hash = base .. 'uris:' .. math.floor(struct.unpack('>I3', ARGV[2], at) / shift)
  local field = string.sub(ARGV[2], at + 3, at + 13)
  local entry = redis.call('HGET', hash, field)
  if entry then
    local row = struct.unpack('<I4', entry)
    local block, place = math.floor(row / 64), row % 64
    local vectors = base .. 'vectors:' .. block
    local width = redis.call('STRLEN', vectors) / 64
    redis.call('SETRANGE', vectors, place * width, string.rep('\0', width))
    local key = base .. 'records:' .. block
    local stored = redis.call('GET', key)
    local lengths = {struct.unpack('<' .. string.rep('I4', place + 1), stored)}
    local start = 257
    for i = 1, place do
      start = start + lengths[i]
    end
    redis.call('SET', key, string.sub(stored, 1, 4 * place) .. '\0\0\0\0'
      .. string.sub(stored, 4 * place + 5, start - 1)
      .. string.sub(stored, start + lengths[place + 1]))
    redis.call('HDEL', hash, field)
    deleted[#deleted + 1] = struct.pack('<I4', row)
  end
end
if #deleted > 0 then
  redis.call('APPEND', base .. 'dead', table.concat(deleted))
  redis.call('HINCRBY', KEYS[1], 'live', -#deleted)
  redis.call('HINCRBY', KEYS[1], 'epoch', 1)
end
return #deleted
