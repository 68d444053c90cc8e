-- Commits a batch of images: all of it or nothing; committed again, it changes nothing.
-- KEYS: meta
-- ARGV: generation, its number of tables, next generation (0: none), its number of tables,
--       uri_bits, digests of 14 + 8 bytes (URI, fingerprint), stored vectors, and u32 buckets (in
--       each table of the generation, then of the next), each end to end; then the records
-- Returns a character for each image: '=' unchanged, '+' added, '~' replaced;
-- or nil if the collection has other generations by now.
local base = string.sub(KEYS[1], 1, -5)
local state = redis.call('HMGET', KEYS[1], 'generation', 'next', 'rows')
if state[1] ~= ARGV[1] or state[2] ~= ARGV[3] then
  return false
end
local tables = {}
for side = 1, 3, 2 do
  for t = 0, tonumber(ARGV[side + 1]) - 1 do
    tables[#tables + 1] = base .. 'bucket:' .. ARGV[side] .. ':' .. t .. ':'
  end
end
local shift = 2 ^ (24 - ARGV[5])
local digests, vectors, buckets = ARGV[6], ARGV[7], ARGV[8]
local count = #digests / 22
local width = #vectors / count
local first, row = tonumber(state[3]), tonumber(state[3])

-- What is to be pushed onto the lists of the current block.
local new_vectors, new_records = {}, {}
local function push()
  if #new_vectors > 0 then
    local block = math.floor((row - 1) / 128)
    redis.call('RPUSH', base .. 'vectors:' .. block, unpack(new_vectors))
    redis.call('RPUSH', base .. 'records:' .. block, unpack(new_records))
    new_vectors, new_records = {}, {}
  end
end

local format, sub, unpack_number = string.format, string.sub, struct.unpack
local dead, results = {}, {}
for i = 0, count - 1 do
  local at = 22 * i + 1
  -- format('%d') is several times faster than '..' on a number.
  local slot = format('%suri:%d', base, unpack_number('>I3', digests, at) / shift)
  local field = sub(digests, at + 3, at + 13)
  local fingerprint = sub(digests, at + 14, at + 21)
  local packed = struct.pack('<I4', row)
  local entry = nil
  if redis.call('HSETNX', slot, field, packed .. fingerprint) == 0 then
    entry = redis.call('HGET', slot, field)
  end
  if entry and sub(entry, 5) == fingerprint then
    results[#results + 1] = '='
  else
    if entry then
      -- The old one may be of this very batch.
      push()
      local old = unpack_number('<I4', entry)
      local block, place = math.floor(old / 128), old % 128
      redis.call('LSET', base .. 'vectors:' .. block, place, '')
      redis.call('LSET', base .. 'records:' .. block, place, '')
      redis.call('HSET', slot, field, packed .. fingerprint)
      dead[#dead + 1] = struct.pack('<I4', old)
    end
    results[#results + 1] = entry and '~' or '+'
    new_vectors[#new_vectors + 1] = sub(vectors, i * width + 1, (i + 1) * width)
    new_records[#new_records + 1] = ARGV[9 + i]
    for t, prefix in ipairs(tables) do
      local bucket = unpack_number('<I4', buckets, 4 * (i * #tables + t) - 3)
      redis.call('APPEND', format('%s%d', prefix, bucket), packed)
    end
    row = row + 1
    if row % 128 == 0 then
      push()
    end
  end
end
push()
if row > first then
  if #dead > 0 then
    redis.call('APPEND', base .. 'dead', table.concat(dead))
  end
  redis.call('HSET', KEYS[1], 'rows', row)
  redis.call('HINCRBY', KEYS[1], 'live', row - first - #dead)
  redis.call('HINCRBY', KEYS[1], 'epoch', 1)
end
return table.concat(results)
