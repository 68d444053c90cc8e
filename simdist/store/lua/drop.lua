-- See `scripts.drop`.
local base = string.sub(KEYS[1], 1, -5)
if redis.call('HGET', KEYS[1], 'retired') ~= generation then
  return 0
end
if first_bucket == end_bucket then
  redis.call('UNLINK', base .. 'family:' .. generation)
  redis.call('HDEL', KEYS[1], 'retired')
end
local prefix = base .. 'bucket:' .. generation .. ':%d:%d'
for bucket = first_bucket, end_bucket - 1 do
  for t = 0, tables - 1 do
    redis.call('UNLINK', string.format(prefix, t, bucket))
  end
end
return 1
