-- See `scripts.create`. The rest of the arguments: field, value, ...
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'generation', 0, 'next', 0, 'rows', 0, 'live', 0, 'epoch', 0,
             unpack(ARGV, REST))
end
return redis.call('HGETALL', KEYS[1])
