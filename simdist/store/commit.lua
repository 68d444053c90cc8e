-- Commits a batch of images: all of it or nothing; committed again, it changes nothing.
-- KEYS: meta
-- ARGV: generation, its number of tables, next generation (0: none), its number of tables,
--       then for each image: 16 + 8 bytes of digests (URI, fingerprint), record,
--       u32 bucket in each table of the generation, then of the next
-- Returns a character for each image: '=' unchanged, '+' added, '~' replaced;
-- or nil if the collection has other generations by now.
local meta = KEYS[1]
local base = string.sub(meta, 1, -5)
local state = redis.call('HMGET', meta, 'generation', 'next', 'rows')
if state[1] ~= ARGV[1] or state[2] ~= ARGV[3] then
  return false
end
local tables = {}
for side = 1, 3, 2 do
  for t = 0, tonumber(ARGV[side + 1]) - 1 do
    tables[#tables + 1] = base .. 'bucket:' .. ARGV[side] .. ':' .. t .. ':'
  end
end
local row = tonumber(state[3])
local added, results = 0, {}
for i = 5, #ARGV, 3 do
  local slot = base .. 'uri:' .. string.sub(ARGV[i], 1, 2)
  local field = string.sub(ARGV[i], 3, 16)
  local fingerprint = string.sub(ARGV[i], 17)
  local entry = redis.call('HGET', slot, field)
  if entry and string.sub(entry, 5) == fingerprint then
    results[#results + 1] = '='
  else
    if entry then
      local old = struct.unpack('<I4', entry)
      redis.call('SETBIT', base .. 'dead', old, 1)
      redis.call('UNLINK', base .. 'row:' .. old)
      results[#results + 1] = '~'
    else
      added = added + 1
      results[#results + 1] = '+'
    end
    local packed = struct.pack('<I4', row)
    redis.call('SET', base .. 'row:' .. row, ARGV[i + 1])
    for t, prefix in ipairs(tables) do
      redis.call('APPEND', prefix .. struct.unpack('<I4', ARGV[i + 2], 4 * t - 3), packed)
    end
    redis.call('HSET', slot, field, packed .. fingerprint)
    row = row + 1
  end
end
if row ~= tonumber(state[3]) then
  redis.call('HSET', meta, 'rows', row)
  redis.call('HINCRBY', meta, 'live', added)
  redis.call('HINCRBY', meta, 'epoch', 1)
end
return table.concat(results)
