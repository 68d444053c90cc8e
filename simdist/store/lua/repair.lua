-- See `scripts.repair`. The rest of the arguments are commands: for each how many words it has, its
-- name, its key less `base`, the other words.
local state = redis.call('HMGET', KEYS[1], 'born', 'epoch')
if redis.call('EXISTS', KEYS[1]) == 0 or (state[1] or '') ~= born or (state[2] or '') ~= epoch then
  return 0
end
local at = REST
while at <= #ARGV do
  local size = tonumber(ARGV[at])
  redis.call(ARGV[at + 1], base .. ARGV[at + 2], unpack(ARGV, at + 3, at + size))
  at = at + size + 1
end
-- Whoever has seen a moment does not find it any more, and drops what it has read.
redis.call('UNLINK', tips)
change(tip)
return 1
