-- See `scripts.find`.
if not now_for(born, '') then
  return false
end
local shift = 2 ^ (8 * PREFIX - uri_bits)
local hash = base .. 'uris:' .. math.floor(struct.unpack('>I' .. PREFIX, digest) / shift)
local entry = redis.call('HGET', hash, string.sub(digest, PREFIX + 1))
if not entry then
  return {}
end
local vector, record = read_row(row_of(entry, hash), tonumber(width))
if record == '' then
  damaged(hash)
end
return {vector, record, string.sub(entry, ROW + 1)}
