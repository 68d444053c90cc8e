-- Which of these images are indexed with this content?
-- KEYS: meta   ARGV: digests of 16 + 8 bytes, end to end   Returns a string of '0' and '1'.
local base = string.sub(KEYS[1], 1, -5)
local answers = {}
for at = 1, #ARGV[1], 24 do
  local slot = base .. 'uri:' .. string.sub(ARGV[1], at, at + 1)
  local entry = redis.call('HGET', slot, string.sub(ARGV[1], at + 2, at + 15))
  local same = entry and string.sub(entry, 5) == string.sub(ARGV[1], at + 16, at + 23)
  answers[#answers + 1] = same and '1' or '0'
end
return table.concat(answers)
