-- Gives a collection its first hash family; the first one to come wins.
-- KEYS: meta   ARGV: kind, tables, the family's bytes   Returns the generation now.
local base = string.sub(KEYS[1], 1, -5)
if redis.call('HGET', KEYS[1], 'generation') == '0' then
  redis.call('SET', base .. 'family:1', ARGV[3])
  redis.call('HSET', KEYS[1], 'generation', 1, 'family', ARGV[1], 'tables', ARGV[2])
end
return redis.call('HGET', KEYS[1], 'generation')
