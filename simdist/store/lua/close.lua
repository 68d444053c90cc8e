-- See `name_scripts.close`.
local base = string.sub(KEYS[1], 1, -5)
local state = redis.call('HGETALL', KEYS[1])
if #state > 0 then
  redis.call('HSET', base .. 'dropped', unpack(state))
  redis.call('UNLINK', KEYS[1])
end
return redis.call('HGETALL', base .. 'dropped')
