-- See `scripts.rows`.
local base = string.sub(KEYS[1], 1, -5)
local size = tonumber(width)
local answer = {}
for at = 1, #rows, ROW do
  local row = struct.unpack('<I4', rows, at)
  local block, slot = math.floor(row / BLOCK), row % BLOCK
  local first = slot * size
  answer[#answer + 1] =
    redis.call('GETRANGE', base .. 'vectors:' .. block, first, first + size - 1)
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
  answer[#answer + 1] = record
end
return answer
