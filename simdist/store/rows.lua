-- The stored vector and the record of each row; an empty record for those that are gone.
-- KEYS: meta   ARGV: bytes of a vector, u32 rows, end to end
local base = string.sub(KEYS[1], 1, -5)
local width = tonumber(ARGV[1])
local answer = {}
-- What is added to the length of a dead row's record.
local dead = 2 ^ 31
for at = 1, #ARGV[2], 4 do
  local row = struct.unpack('<I4', ARGV[2], at)
  local block, place = math.floor(row / 64), row % 64
  local first = place * width
  answer[#answer + 1] =
    redis.call('GETRANGE', base .. 'vectors:' .. block, first, first + width - 1)
  local key = base .. 'records:' .. block
  local sizes = redis.call('GETRANGE', key, 0, 4 * place + 3)
  local record = ''
  if sizes ~= '' then
    local lengths, start = {struct.unpack('<' .. string.rep('I4', place + 1), sizes)}, 256
    for i = 1, place do
      local length = lengths[i]
      start = start + (length < dead and length or length - dead)
    end
    local length = lengths[place + 1]
    if length > 0 and length < dead then
      record = redis.call('GETRANGE', key, start, start + length - 1)
    end
  end
  answer[#answer + 1] = record
end
return answer
