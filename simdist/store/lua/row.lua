-- Part of the scripts that read single rows: the stored vector and the record of one; an empty record
-- where it is dead.
local function read_row(row, width)
  local block, slot = math.floor(row / BLOCK), row % BLOCK
  local first = slot * width
  local vector = redis.call('GETRANGE', base .. 'vectors:' .. block, first, first + width - 1)
  local key = base .. 'records:' .. block
  local sizes = redis.call('GETRANGE', key, 0, ROW * slot + ROW - 1)
  local record = ''
  if sizes ~= '' then
    local lengths, start = {struct.unpack('<' .. string.rep('I4', slot + 1), sizes)}, LENGTHS
    for i = 1, slot do
      local length = lengths[i]
      start = start + (length < DEAD and length or length - DEAD)
    end
    local length = lengths[slot + 1]
    if length > 0 and length < DEAD then
      record = redis.call('GETRANGE', key, start, start + length - 1)
    end
  end
  return vector, record
end
