-- See `scripts.read`.
local state = redis.call('HMGET', KEYS[1], 'generation', 'epoch', 'born', 'rows', 'bits')
if state[1] ~= generation or (state[3] or '') ~= born then
  return false
end
local epoch = count_of(state[2])
if is_lost(seen, epoch, true) then
  return false
end
local bits = count_of(state[5] or '0')
local dead = redis.call('GETRANGE', base .. 'dead', ROW * dead_known, -1)
local left, size_of = tonumber(limit), tonumber(width)
local prefix = base .. 'bucket:' .. generation .. ':'
local blocks = base .. 'vectors:%d'
local call, format, rep = redis.call, string.format, string.rep
local pack, unpack_number = struct.pack, struct.unpack

-- The rows in a string of them. A call each would take a tenth of the script's time; all at once
-- they are too many for Lua's stack.
local AT_ONCE = 256
local function split(packed)
  local rows, count = nil, #packed / ROW
  for first = 1, count, AT_ONCE do
    local size = math.min(AT_ONCE, count - first + 1)
    local some = {unpack_number('<' .. rep('I4', size), packed, ROW * (first - 1) + 1)}
    if not rows then
      rows = some
    else
      for i = 1, size do
        rows[first + i - 1] = some[i]
      end
    end
  end
  return rows or {}
end

local sizes, rows_of_all, are_codes, coded, whole = {}, {}, {}, {}, {}
for at = 1, #wanted, 3 * ROW do
  if left == 0 then
    break
  end
  local t, bucket, known = unpack_number('<I4I4I4', wanted, at)
  local packed =
    call('GETRANGE', prefix .. t .. ':' .. bucket, ROW * known, ROW * (known + left) - 1)
  if #packed % ROW ~= 0 then
    damaged(prefix .. t .. ':' .. bucket)
  end
  local rows, size, i = split(packed), #packed / ROW, 1
  sizes[#sizes + 1], rows_of_all[#rows_of_all + 1] = pack('<I4', size), packed
  while i <= size do
    -- Rows that were written together follow each other.
    local start = rows[i]
    local row = start
    i = i + 1
    while i <= size and rows[i] == row + 1 and rows[i] % BLOCK > 0 do
      row = row + 1
      i = i + 1
    end
    -- format drops the fraction.
    local block, here = format(blocks, start / BLOCK), size_of
    if bits > 0 then
      -- It may hold codes.
      local length = call('STRLEN', block)
      here = length > 0 and length / BLOCK or size_of
      are_codes[#are_codes + 1] = rep(here < size_of and '\1' or '\0', row - start + 1)
    end
    local vectors = call('GETRANGE', block, start % BLOCK * here, (row % BLOCK + 1) * here - 1)
    if vectors == '' then
      -- A block whose rows are all dead is gone.
      vectors = rep('\0', (row - start + 1) * size_of)
    end
    local of_kind = here < size_of and coded or whole
    of_kind[#of_kind + 1] = vectors
  end
  left = left - size
end
-- What is long is joined by whoever reads it: here that takes as long as all the rest.
local join = table.concat
return {moment_of(epoch), count_of(state[4]), bits, dead, join(sizes), join(rows_of_all),
        join(are_codes), coded, whole}
