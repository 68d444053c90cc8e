-- See `scripts.known`.
local now = now_for(born, seen)
if not now then
  return false
end
local shift = 2 ^ (8 * PREFIX - uri_bits)
local answers = {}
for at = 1, #digests, DIGEST + FINGERPRINT do
  local number = math.floor(struct.unpack('>I' .. PREFIX, digests, at) / shift)
  local field = string.sub(digests, at + PREFIX, at + DIGEST - 1)
  local entry = redis.call('HGET', base .. 'uris:' .. number, field)
  local fingerprint = string.sub(digests, at + DIGEST, at + DIGEST + FINGERPRINT - 1)
  local same = entry and string.sub(entry, ROW + 1) == fingerprint
  answers[#answers + 1] = same and '1' or entry and '2' or '0'
end
return {now, table.concat(answers)}
