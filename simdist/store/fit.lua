-- Gives a collection its first hash family; the first one to come wins.
-- KEYS: meta   ARGV: number of images it was fitted on, the family's bytes
local base = string.sub(KEYS[1], 1, -5)
if redis.call('HGET', KEYS[1], 'generation') == '0' then
  redis.call('SET', base .. 'family:1', ARGV[2])
  redis.call('HSET', KEYS[1], 'generation', 1, 'fitted', ARGV[1])
end
return redis.call('HGET', KEYS[1], 'generation')
