-- Commits a batch of images: all of it or nothing; committed again, it changes nothing.
-- KEYS: meta
-- ARGV: generation, its number of tables, next generation (0: none), its number of tables,
--       force (1: replace also what is unchanged), uri_bits, digests of 14 + 8 bytes (URI,
--       fingerprint), stored vectors, and u32 buckets (in each table of the generation, then of the
--       next), each end to end; then the records
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
local force = ARGV[5] == '1'
local shift = 2 ^ (24 - ARGV[6])
local digests, vectors, buckets = ARGV[7], ARGV[8], ARGV[9]
local count = #digests / 22
local width = #vectors / count
local first, row = tonumber(state[3]), tonumber(state[3])

-- Images from `run` on, with rows from `run_row` on, are still to be written, side by side.
local run, run_row = 0, row
local function write(stop)
  if stop > run then
    local block, place = math.floor(run_row / 64), run_row % 64
    local key = base .. 'vectors:' .. block
    if place == 0 and stop - run < 64 then
      -- The whole block at once: a string that grows takes twice what it needs.
      redis.call('SETRANGE', key, 64 * width - 1, '\0')
    end
    redis.call('SETRANGE', key, place * width, string.sub(vectors, run * width + 1, stop * width))
    redis.call('RPUSH', base .. 'records:' .. block, unpack(ARGV, 10 + run, 9 + stop))
  end
end

local call, format, sub = redis.call, string.format, string.sub
local pack_number, unpack_number = struct.pack, struct.unpack
local dead, results = {}, {}
for i = 0, count - 1 do
  local number, field, fingerprint = unpack_number('>I3c11c8', digests, 22 * i + 1)
  -- format('%d') drops the fraction, and is several times faster than '..' on a number.
  local slot = format('%suri:%d', base, number / shift)
  local packed = pack_number('<I4', row)
  local entry = nil
  if call('HSETNX', slot, field, packed .. fingerprint) == 0 then
    entry = call('HGET', slot, field)
  end
  if entry and sub(entry, 5) == fingerprint and not force then
    write(i)
    run, run_row = i + 1, row
    results[#results + 1] = '='
  else
    if entry then
      -- The old one may be of this very batch.
      write(i)
      run, run_row = i, row
      local old = unpack_number('<I4', entry)
      local block, place = math.floor(old / 64), old % 64
      call('SETRANGE', base .. 'vectors:' .. block, place * width, string.rep('\0', width))
      call('LSET', base .. 'records:' .. block, place, '')
      call('HSET', slot, field, packed .. fingerprint)
      dead[#dead + 1] = pack_number('<I4', old)
    end
    results[#results + 1] = entry and '~' or '+'
    for t, prefix in ipairs(tables) do
      local bucket = unpack_number('<I4', buckets, 4 * (i * #tables + t) - 3)
      call('APPEND', format('%s%d', prefix, bucket), packed)
    end
    row = row + 1
    if row % 64 == 0 then
      write(i + 1)
      run, run_row = i + 1, row
    end
  end
end
write(count)
if row > first then
  if #dead > 0 then
    redis.call('APPEND', base .. 'dead', table.concat(dead))
  end
  redis.call('HSET', KEYS[1], 'rows', row)
  redis.call('HINCRBY', KEYS[1], 'live', row - first - #dead)
  redis.call('HINCRBY', KEYS[1], 'epoch', 1)
end
return table.concat(results)
