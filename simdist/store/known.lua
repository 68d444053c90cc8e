-- Which of these images are indexed with this content?
-- KEYS: meta   ARGV: uri_bits, digests of 14 + 8 bytes, end to end
-- Returns a string of '0' and '1'.
local base = string.sub(KEYS[1], 1, -5)
local shift = 2 ^ (24 - ARGV[1])
local answers = {}
for at = 1, #ARGV[2], 22 do
  local slot = math.floor(struct.unpack('>I3', ARGV[2], at) / shift)
  local entry = redis.call('HGET', base .. 'uris:' .. slot, string.sub(ARGV[2], at + 3, at + 13))
  local same = entry and string.sub(entry, 5) == string.sub(ARGV[2], at + 14, at + 21)
  answers[#answers + 1] = same and '1' or '0'
end
return table.concat(answers)
