-- See `scripts.commit`. Where all images are new, `insert` saves a fourth of the time.
--
-- One call from Lua costs as much as all else for an image. So there is one for the images of a
-- hash, of a block, and of a row of images in the same bucket.
local call, sub, rep = redis.call, string.sub, string.rep
local pack_number, unpack_number = struct.pack, struct.unpack
local now = now_for(born, seen)
if not now then
  return false
end
local known = check_counts(base)
local state = call('HMGET', KEYS[1], 'generation', 'next')
if state[1] ~= generation or state[2] ~= following then
  return {now, false}
end
local forced = force == '1'
local count, bytes = #lengths / ROW, 0
for i = REST, #ARGV do
  bytes = bytes + #ARGV[i]
end
local width = bytes / count

local function split(joined, format, size)
  return {unpack_number('<' .. rep(format, #joined / size), joined)}
end

-- What is there already?
local groups, position_of = split(hashes, 'I4', ROW), split(positions, 'I4', ROW)
local field_of = split(fields, 'c' .. FIELD, FIELD)
local fingerprint_of = split(fingerprints, 'c' .. FINGERPRINT, FINGERPRINT)
local expecting, expected_of = expected ~= '', split(expected, 'I4', ROW)
local results, old = {}, {}
local at = 0
for i = 1, #hashes / ROW, 2 do
  local hash, size = base .. 'uris:' .. groups[i], groups[i + 1]
  local entries = call('HMGET', hash, unpack(field_of, at + 1, at + size))
  for j = 1, size do
    local entry = entries[j]
    local there = entry and row_of(entry, hash)
    if expecting and there ~= expected_of[at + j] then
      results[position_of[at + j]] = '='
    elseif not entry then
      results[position_of[at + j]] = '+'
    elseif sub(entry, ROW + 1) == fingerprint_of[at + j] and not forced then
      results[position_of[at + j]] = '='
    else
      results[position_of[at + j]] = '~'
      old[#old + 1] = there
    end
  end
  at = at + size
end

-- The others get the next rows.
local first, row, rows = known, known, {}
local numbers = {}
for position = 1, count do
  if results[position] ~= '=' then
    rows[position] = row
    row = row + 1
    numbers[row - first] = row - 1
  end
end
if row == first then
  return {now, table.concat(results)}
end
local blocks = read_blocks(base, old, width)
if #old > 0 and old[#old] >= known then
  damaged(KEYS[1])
end
check_end(base, first, width)
local packed = pack_number('<' .. rep('I4', #numbers), unpack(numbers))
at = 0
for i = 1, #hashes / ROW, 2 do
  local size, pairs_of = groups[i + 1], {}
  for j = at + 1, at + size do
    local new = rows[position_of[j]]
    if new then
      local n = #pairs_of
      pairs_of[n + 1] = field_of[j]
      pairs_of[n + 2] = pack_number('<I4c' .. FINGERPRINT, new, fingerprint_of[j])
    end
  end
  if #pairs_of > 0 then
    call('HSET', base .. 'uris:' .. groups[i], unpack(pairs_of))
  end
  at = at + size
end

bury(base, old, blocks, width)

-- Buckets.
local kinds = {generation, tables, following, following_tables}
local at_table = 0
for side = 1, 3, 2 do
  for t = 0, kinds[side + 1] - 1 do
    local prefix = base .. 'bucket:' .. kinds[side] .. ':' .. t .. ':%d'
    local joined = sub(buckets, ROW * count * at_table + 1, ROW * count * (at_table + 1))
    local bucket_of = split(joined, 'I4', ROW)
    local bucket, start = nil, first
    for position = 1, count do
      if rows[position] and bucket_of[position] ~= bucket then
        if bucket then
          call('APPEND', string.format(prefix, bucket),
               sub(packed, ROW * (start - first) + 1, ROW * (rows[position] - first)))
        end
        bucket, start = bucket_of[position], rows[position]
      end
    end
    call('APPEND', string.format(prefix, bucket), sub(packed, ROW * (start - first) + 1))
    at_table = at_table + 1
  end
end

-- Vectors and records, as many side by side as lie in one block.
local pieces, next_piece, joined = {}, 1, nil
for i = REST, #ARGV do
  pieces[next_piece] = ARGV[i]
  next_piece = next_piece + #ARGV[i] / width
end
local function vectors(from, till)
  local piece = pieces[from]
  if piece and #piece == (till - from + 1) * width then
    return piece
  end
  joined = joined or table.concat(ARGV, '', REST)
  return sub(joined, (from - 1) * width + 1, till * width)
end
local length_of, ends, last = split(lengths, 'I4', ROW), {[0] = 0}, 0
for position = 1, count do
  last = last + length_of[position]
  ends[position] = last
end
local function write(from, till)
  write_block(base, rows[from], width, vectors(from, till),
              sub(lengths, ROW * from - ROW + 1, ROW * till),
              sub(records, ends[from - 1] + 1, ends[till]))
end
local from = nil
for position = 1, count do
  local new = rows[position]
  if new then
    from = from or position
    if new % BLOCK == BLOCK - 1 then
      write(from, position)
      from = nil
    end
  elseif from then
    write(from, position - 1)
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
return {change(tip), table.concat(results)}
