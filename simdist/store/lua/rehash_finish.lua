-- See `scripts.rehash_finish`.
local state = redis.call('HMGET', KEYS[1], 'next', 'filled', 'fill', 'next_fitted', 'generation',
                         'next_skipped')
if state[1] ~= following or count_of(state[2]) < count_of(state[3]) then
  return 0
end
check_counts(base)
redis.call('HSET', KEYS[1], 'generation', state[1], 'fitted', state[4], 'next', 0,
           'retired', state[5], 'skipped', state[6] or 0)
redis.call('HDEL', KEYS[1], 'next_fitted', 'next_skipped', 'filled', 'fill')
change(tip)
return 1
