-- See `scripts.find`.
if not now_for(born, '') then
  return false
end
local shift = 2 ^ (8 * PREFIX - uri_bits)
local answer = {}
for at = 1, #digests, DIGEST do
  local hash = base .. 'uris:' .. math.floor(struct.unpack('>I' .. PREFIX, digests, at) / shift)
  local entry = redis.call('HGET', hash, string.sub(digests, at + PREFIX, at + DIGEST - 1))
  local vector, record, fingerprint = '', '', ''
  if entry then
    vector, record = read_row(row_of(entry, hash), tonumber(width))
    if record == '' then
      damaged(hash)
    end
    fingerprint = string.sub(entry, ROW + 1)
  end
  answer[#answer + 1] = vector
  answer[#answer + 1] = record
  answer[#answer + 1] = fingerprint
end
return answer
