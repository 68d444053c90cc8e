-- See `scripts.fit`.
local base = string.sub(KEYS[1], 1, -5)
if redis.call('HGET', KEYS[1], 'generation') == '0' then
  redis.call('SET', base .. 'family:1', family)
  redis.call('HSET', KEYS[1], 'generation', 1, 'fitted', images)
end
