-- See `scripts.delete`.
local now = now_for(born, seen)
if not now then
  return false
end
local shift = 2 ^ (8 * PREFIX - uri_bits)
local known = check_counts(base)
local rows, found, results = {}, {}, {}
for at = 1, #digests, DIGEST do
  local hash = base .. 'uris:' .. math.floor(struct.unpack('>I' .. PREFIX, digests, at) / shift)
  local field = string.sub(digests, at + PREFIX, at + DIGEST - 1)
  local entry = redis.call('HGET', hash, field)
  local row, number = entry and row_of(entry, hash), #results
  -- One that is named twice is there once.
  if not row or found[hash .. field] then
    results[number + 1] = '0'
  elseif expected ~= '' and struct.unpack('<I4', expected, number * ROW + 1) ~= row then
    results[number + 1] = '='
  else
    found[hash .. field] = {hash, field}
    rows[#rows + 1] = row
    results[number + 1] = '-'
  end
end
if #rows > 0 then
  local blocks = read_blocks(base, rows, tonumber(width))
  if rows[#rows] >= known then
    damaged(KEYS[1])
  end
  for _, place in pairs(found) do
    redis.call('HDEL', place[1], place[2])
  end
  bury(base, rows, blocks, tonumber(width))
  redis.call('APPEND', base .. 'dead', struct.pack('<' .. string.rep('I4', #rows), unpack(rows)))
  redis.call('HINCRBY', KEYS[1], 'live', -#rows)
  now = change(tip)
end
return {now, table.concat(results)}
