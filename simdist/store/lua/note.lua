-- See `name_scripts.note`. The rest of the arguments: the command's own, behind its key.
if not now_for(born, '') or redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
redis.call(command, base .. key, unpack(ARGV, REST))
return 1
