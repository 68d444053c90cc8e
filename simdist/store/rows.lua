-- The stored vector and the record of each row; empty strings for those that are gone.
-- KEYS: meta   ARGV: u32 rows, end to end
local base = string.sub(KEYS[1], 1, -5)
local answer = {}
for at = 1, #ARGV[1], 4 do
  local row = struct.unpack('<I4', ARGV[1], at)
  local block, place = math.floor(row / 128), row % 128
  answer[#answer + 1] = redis.call('LINDEX', base .. 'vectors:' .. block, place) or ''
  answer[#answer + 1] = redis.call('LINDEX', base .. 'records:' .. block, place) or ''
end
return answer
