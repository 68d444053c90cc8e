-- See `scripts.fit`.
if now_for(born, '') and redis.call('HGET', KEYS[1], 'generation') == '0' then
  redis.call('SET', base .. 'family:' .. generation, family)
  redis.call('HSET', KEYS[1], 'generation', generation, 'fitted', images)
end
