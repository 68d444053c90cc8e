-- Puts old rows into the new tables, a batch at a time, each row once.
-- KEYS: meta   ARGV: next generation, first row, row after the last, number of tables,
--       rows with their u32 bucket in each table: (row, bucket, ...) end to end
-- Does nothing if another process has filled in these rows.
local base = string.sub(KEYS[1], 1, -5)
local state = redis.call('HMGET', KEYS[1], 'next', 'filled')
if state[1] ~= ARGV[1] or state[2] ~= ARGV[2] then
  return 0
end
local tables = tonumber(ARGV[4])
for at = 1, #ARGV[5], 4 + 4 * tables do
  local packed = string.sub(ARGV[5], at, at + 3)
  for t = 0, tables - 1 do
    local bucket = struct.unpack('<I4', ARGV[5], at + 4 + 4 * t)
    redis.call('APPEND', base .. 'bucket:' .. ARGV[1] .. ':' .. t .. ':' .. bucket, packed)
  end
end
redis.call('HSET', KEYS[1], 'filled', ARGV[3])
return 1
