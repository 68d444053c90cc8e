-- Commits a batch of images: all of it or nothing; committed again, it changes nothing.
-- KEYS: meta
-- ARGV: generation, number of tables, then for each image:
--       16 + 8 bytes of digests (URI, fingerprint), record, u32 bucket of each table
-- Returns a character for each image: '=' unchanged, '+' added, '~' replaced;
-- or the error GENERATION if the buckets are those of another hash family.
local meta = KEYS[1]
local base = string.sub(meta, 1, -5)
local state = redis.call('HMGET', meta, 'generation', 'rows')
if state[1] ~= ARGV[1] then
  return redis.error_reply('GENERATION the hash family has changed')
end
local row = tonumber(state[2])
local added, results = 0, {}
for i = 3, #ARGV, 3 do
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
    for t = 0, tonumber(ARGV[2]) - 1 do
      local bucket = struct.unpack('<I4', ARGV[i + 2], 4 * t + 1)
      redis.call('APPEND', base .. 'bucket:' .. ARGV[1] .. ':' .. t .. ':' .. bucket, packed)
    end
    redis.call('HSET', slot, field, packed .. fingerprint)
    row = row + 1
  end
end
if row ~= tonumber(state[2]) then
  redis.call('HSET', meta, 'rows', row)
  redis.call('HINCRBY', meta, 'live', added)
  redis.call('HINCRBY', meta, 'epoch', 1)
end
return table.concat(results)
