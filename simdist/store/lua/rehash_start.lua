-- See `scripts.rehash_start`.
local base = string.sub(KEYS[1], 1, -5)
local state = redis.call('HMGET', KEYS[1], 'generation', 'next', 'rows', 'live')
if state[1] == generation and state[2] == '0' then
  redis.call('SET', base .. 'family:' .. following, family)
  redis.call('HSET', KEYS[1], 'next', following, 'next_fitted', images, 'filled', 0, 'fill', state[3],
             'next_skipped', math.max(0, (tonumber(state[3]) or 0) - (tonumber(state[4]) or 0)))
end
