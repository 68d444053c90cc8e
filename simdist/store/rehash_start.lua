-- Starts new hash tables beside the old ones; from now on commits write to both.
-- KEYS: meta   ARGV: generation that they are to replace, number of images, the family's bytes
-- Does nothing if that is no longer the generation, or new tables are started already.
local base = string.sub(KEYS[1], 1, -5)
local state = redis.call('HMGET', KEYS[1], 'generation', 'next', 'rows')
if state[1] == ARGV[1] and state[2] == '0' then
  local next = state[1] + 1
  redis.call('SET', base .. 'family:' .. next, ARGV[3])
  redis.call('HSET', KEYS[1], 'next', next, 'next_fitted', ARGV[2], 'filled', 0, 'fill', state[3])
end
return 0
