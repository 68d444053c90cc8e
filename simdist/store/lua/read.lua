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
local answer = {moment_of(epoch), count_of(state[4]), bits,
                redis.call('GETRANGE', base .. 'dead', ROW * dead_known, -1)}
local left, size_of = tonumber(limit), tonumber(width)
local prefix = base .. 'bucket:' .. generation .. ':'
local blocks = base .. 'vectors:%d'
local call, format, unpack_number = redis.call, string.format, struct.unpack
for at = 1, #wanted, 3 * ROW do
  if left == 0 then
    break
  end
  local t, bucket, known = unpack_number('<I4I4I4', wanted, at)
  local packed =
    call('GETRANGE', prefix .. t .. ':' .. bucket, ROW * known, ROW * (known + left) - 1)
  local found, size = {packed}, #packed
  if size % ROW ~= 0 then
    damaged(prefix .. t .. ':' .. bucket)
  end
  local start, next = nil, 1
  while next < size do
    -- Rows that were written together follow each other.
    start = unpack_number('<I4', packed, next)
    local row = start
    next = next + ROW
    while next < size and row % BLOCK < BLOCK - 1
          and unpack_number('<I4', packed, next) == row + 1 do
      row = row + 1
      next = next + ROW
    end
    -- format drops the fraction.
    local block, here = format(blocks, start / BLOCK), size_of
    if bits > 0 then
      -- It may hold codes.
      here = call('STRLEN', block) / BLOCK
    end
    local vectors = call('GETRANGE', block, start % BLOCK * here, (row % BLOCK + 1) * here - 1)
    -- A block whose rows are all dead is gone.
    found[#found + 1] =
      vectors == '' and string.rep('\0', (row - start + 1) * size_of) or vectors
  end
  left = left - size / ROW
  answer[#answer + 1] = found
end
return answer
