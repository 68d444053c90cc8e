-- See `scripts.trim`.
local base = string.sub(KEYS[1], 1, -5)
if redis.call('HGET', KEYS[1], 'generation') ~= generation then
  return 0
end
local prefix = base .. 'bucket:' .. generation .. ':%d:%d'
for bucket = first_bucket, end_bucket - 1 do
  for t = 0, tables - 1 do
    local key = string.format(prefix, t, bucket)
    local rows = redis.call('GET', key)
    if rows then
      redis.call('SET', key, rows)
    end
  end
end
return 1
