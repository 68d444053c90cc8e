-- Part of the scripts that read single rows: the stored vector and the record of one; an empty record
-- where it is dead. Of one that lies in a file the vector is empty, and in place of the record comes
-- where it is.
local function read_row(row, width)
  local block, slot = math.floor(row / BLOCK), row % BLOCK
  local lengths = lengths_of(base, block, width)
  if not lengths then
    return '', ''
  end
  local first, start, record = slot * width, LENGTHS, ''
  for i = 1, slot do
    start = start + lengths[i] % DEAD
  end
  local length = lengths[slot + 1]
  if lengths.place then
    if length == 0 or length >= DEAD then
      return '', ''
    end
    local file, block_at = struct.unpack('<c' .. FILE .. 'I8', lengths.place)
    local at = block_at + slot * width + start - LENGTHS
    return '', file .. struct.pack('<I8I4', at, width + length)
  end
  local vector = redis.call('GETRANGE', base .. 'vectors:' .. block, first, first + width - 1)
  if length > 0 and length < DEAD then
    record = redis.call('GETRANGE', base .. 'records:' .. block, start, start + length - 1)
    if string.sub(vector, 1, 4) == '\0\0\0\0' then
      damaged(base .. 'vectors:' .. block)
    end
  end
  return vector, record
end
