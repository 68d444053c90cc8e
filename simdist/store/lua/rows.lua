-- See `scripts.rows`.
if not now_for(born, seen) then
  return false
end
local answer = {}
for at = 1, #rows, ROW do
  local vector, record = read_row(struct.unpack('<I4', rows, at), tonumber(width))
  answer[#answer + 1] = vector
  answer[#answer + 1] = record
end
return answer
