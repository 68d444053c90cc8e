-- Reads what buckets hold beyond what the reader has, and which rows have died since.
-- KEYS: meta
-- ARGV: generation, number of dead rows that are known, rows to return at most, bytes of a vector,
--       the mark of the partition, (table, bucket, number of rows that are known) u32 each, end to end
-- Returns nil if the collection has another generation by now, or was made anew; otherwise
--   epoch, dead rows, then for each bucket until the limit is reached a list:
--   the rows read of it, end to end, then their stored vectors, in strings of one or more of them,
--   all zeros of a dead one.
local base = string.sub(KEYS[1], 1, -5)
local state = redis.call('HMGET', KEYS[1], 'generation', 'epoch', 'born')
if state[1] ~= ARGV[1] or (state[3] or '') ~= ARGV[5] then
  return false
end
local answer = {tonumber(state[2]), redis.call('GETRANGE', base .. 'dead', 4 * ARGV[2], -1)}
local left, width = tonumber(ARGV[3]), tonumber(ARGV[4])
local prefix = base .. 'bucket:' .. ARGV[1] .. ':'
local blocks = base .. 'vectors:%d'
local call, format, unpack_number = redis.call, string.format, struct.unpack
for at = 1, #ARGV[6], 12 do
  if left == 0 then
    break
  end
  local t, bucket, known = unpack_number('<I4I4I4', ARGV[6], at)
  local packed = call('GETRANGE', prefix .. t .. ':' .. bucket, 4 * known, 4 * (known + left) - 1)
  local found, size = {packed}, #packed
  local start, place = nil, 1
  while place < size do
    -- Rows that were written together follow each other.
    start = unpack_number('<I4', packed, place)
    local row = start
    place = place + 4
    while place < size and row % 64 < 63 and unpack_number('<I4', packed, place) == row + 1 do
      row = row + 1
      place = place + 4
    end
    -- format drops the fraction.
    local vectors =
      call('GETRANGE', format(blocks, start / 64), start % 64 * width, (row % 64 + 1) * width - 1)
    -- A block whose rows are all dead is gone.
    found[#found + 1] =
      vectors == '' and string.rep('\0', (row - start + 1) * width) or vectors
  end
  left = left - size / 4
  answer[#answer + 1] = found
end
return answer
