-- Commits a batch of images: all of it or nothing; committed again, it changes nothing.
-- Where all are new, `insert` saves a fourth of the time.
-- KEYS: meta
-- ARGV: 1 generation, 2 its number of tables, 3 next generation (0: none), 4 its number of tables,
--       5 force (1: replace also what is unchanged),
--       6 u32 pairs: a `uris` hash and how many of the images belong into it; then for these images,
--       in that order: 7 fields of 11 bytes, 8 digests of their fingerprints, 8 bytes each, and
--       9 u32 places: which of the images in the following it is, from 1 on;
--       10 u32 buckets (of all images in one table, then in the next), 11 u32 lengths of records,
--       12 records; each end to end. No URI may come twice.
--       13 and so on: stored vectors, end to end, cut where a block is expected to end: what
--       need not be cut here is not copied once more.
-- Returns a character for each image: '=' unchanged, '+' added, '~' replaced;
-- or nil if the collection has other generations by now.
--
-- One call from Lua costs as much as all else for an image. So there is one for the images of a
-- hash, of a block, and of a row of images in the same bucket.
local base = string.sub(KEYS[1], 1, -5)
local call, sub, rep = redis.call, string.sub, string.rep
local pack_number, unpack_number = struct.pack, struct.unpack
local state = call('HMGET', KEYS[1], 'generation', 'next', 'rows')
if state[1] ~= ARGV[1] or state[2] ~= ARGV[3] then
  return false
end
local force = ARGV[5] == '1'
local records, count, bytes = ARGV[12], #ARGV[11] / 4, 0
for i = 13, #ARGV do
  bytes = bytes + #ARGV[i]
end
local width = bytes / count

local function split(joined, format, size)
  return {unpack_number('<' .. rep(format, #joined / size), joined)}
end

-- What is there already?
local hashes, places = split(ARGV[6], 'I4', 4), split(ARGV[9], 'I4', 4)
local fields, fingerprints = split(ARGV[7], 'c11', 11), split(ARGV[8], 'c8', 8)
local results, old = {}, {}
local at = 0
for i = 1, #ARGV[6] / 4, 2 do
  local hash, size = base .. 'uris:' .. hashes[i], hashes[i + 1]
  local entries = call('HMGET', hash, unpack(fields, at + 1, at + size))
  for j = 1, size do
    local entry = entries[j]
    if not entry then
      results[places[at + j]] = '+'
    elseif sub(entry, 5) == fingerprints[at + j] and not force then
      results[places[at + j]] = '='
    else
      results[places[at + j]] = '~'
      old[#old + 1] = unpack_number('<I4', entry)
    end
  end
  at = at + size
end

-- The others get the next rows.
local first, row, rows = tonumber(state[3]), tonumber(state[3]), {}
local numbers = {}
for place = 1, count do
  if results[place] ~= '=' then
    rows[place] = row
    row = row + 1
    numbers[row - first] = row - 1
  end
end
if row == first then
  return table.concat(results)
end
local packed = pack_number('<' .. rep('I4', #numbers), unpack(numbers))
at = 0
for i = 1, #ARGV[6] / 4, 2 do
  local size, pairs_of = hashes[i + 1], {}
  for j = at + 1, at + size do
    local new = rows[places[j]]
    if new then
      local n = #pairs_of
      pairs_of[n + 1], pairs_of[n + 2] = fields[j], pack_number('<I4c8', new, fingerprints[j])
    end
  end
  if #pairs_of > 0 then
    call('HSET', base .. 'uris:' .. hashes[i], unpack(pairs_of))
  end
  at = at + size
end

bury(base, old, width)

-- Buckets.
local kinds = {ARGV[1], ARGV[2], ARGV[3], ARGV[4]}
local at_table = 0
for side = 1, 3, 2 do
  for t = 0, kinds[side + 1] - 1 do
    local prefix = base .. 'bucket:' .. kinds[side] .. ':' .. t .. ':%d'
    local joined = sub(ARGV[10], 4 * count * at_table + 1, 4 * count * (at_table + 1))
    local buckets = split(joined, 'I4', 4)
    local bucket, start = nil, first
    for place = 1, count do
      if rows[place] and buckets[place] ~= bucket then
        if bucket then
          call('APPEND', string.format(prefix, bucket),
               sub(packed, 4 * (start - first) + 1, 4 * (rows[place] - first)))
        end
        bucket, start = buckets[place], rows[place]
      end
    end
    call('APPEND', string.format(prefix, bucket), sub(packed, 4 * (start - first) + 1))
    at_table = at_table + 1
  end
end

-- Vectors and records, as many side by side as lie in one block.
local pieces, next_piece, joined = {}, 1, nil
for i = 13, #ARGV do
  pieces[next_piece] = ARGV[i]
  next_piece = next_piece + #ARGV[i] / width
end
local function vectors(from, till)
  local piece = pieces[from]
  if piece and #piece == (till - from + 1) * width then
    return piece
  end
  joined = joined or table.concat(ARGV, '', 13)
  return sub(joined, (from - 1) * width + 1, till * width)
end
local lengths, ends, last = split(ARGV[11], 'I4', 4), {[0] = 0}, 0
for place = 1, count do
  last = last + lengths[place]
  ends[place] = last
end
local function write(from, till)
  write_block(base, rows[from], width, vectors(from, till), sub(ARGV[11], 4 * from - 3, 4 * till),
              sub(records, ends[from - 1] + 1, ends[till]))
end
local from = nil
for place = 1, count do
  local new = rows[place]
  if new then
    from = from or place
    if new % 64 == 63 then
      write(from, place)
      from = nil
    end
  elseif from then
    write(from, place - 1)
    from = nil
  end
end
if from then
  write(from, count)
end

if #old > 0 then
  call('APPEND', base .. 'dead', pack_number('<' .. rep('I4', #old), unpack(old)))
end
call('HSET', KEYS[1], 'rows', row)
call('HINCRBY', KEYS[1], 'live', row - first - #old)
call('HINCRBY', KEYS[1], 'epoch', 1)
return table.concat(results)
