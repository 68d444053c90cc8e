-- See `scripts.delete`.
local now = now_for(born, seen)
if not now then
  return false
end
local shift = 2 ^ (8 * PREFIX - uri_bits)
local rows = {}
for at = 1, #digests, DIGEST do
  local hash = base .. 'uris:' .. math.floor(struct.unpack('>I' .. PREFIX, digests, at) / shift)
  local field = string.sub(digests, at + PREFIX, at + DIGEST - 1)
  local entry = redis.call('HGET', hash, field)
  if entry then
    redis.call('HDEL', hash, field)
    rows[#rows + 1] = struct.unpack('<I4', entry)
  end
end
if #rows > 0 then
  bury(base, rows, tonumber(width))
  redis.call('APPEND', base .. 'dead', struct.pack('<' .. string.rep('I4', #rows), unpack(rows)))
  redis.call('HINCRBY', KEYS[1], 'live', -#rows)
  now = change(tip)
end
return {now, #rows}
