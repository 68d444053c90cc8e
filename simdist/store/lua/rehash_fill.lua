-- See `scripts.rehash_fill`.
local base = string.sub(KEYS[1], 1, -5)
local state = redis.call('HMGET', KEYS[1], 'next', 'filled')
if state[1] ~= following or state[2] ~= first then
  return 0
end
local count = tonumber(tables)
for at = 1, #postings, ROW + ROW * count do
  local packed = string.sub(postings, at, at + ROW - 1)
  for t = 0, count - 1 do
    local bucket = struct.unpack('<I4', postings, at + ROW + ROW * t)
    redis.call('APPEND', base .. 'bucket:' .. following .. ':' .. t .. ':' .. bucket, packed)
  end
end
redis.call('HSET', KEYS[1], 'filled', end_row)
return 1
