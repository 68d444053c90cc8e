-- See `scripts.insert`. Whoever sends it knows which rows the images will get, so that hardly
-- anything is left to do here; `commit` does the rest.
local call, rep, sub, unpack_number = redis.call, string.rep, string.sub, struct.unpack
local now = now_for(born, seen)
if not now then
  return false
end
local state = call('HMGET', KEYS[1], 'generation', 'next', 'rows')
if state[1] ~= generation or state[2] ~= following or state[3] ~= first_row then
  return {now, 0}
end

local row = check_counts(base)
local width = #ARGV[REST] / (#ARGV[REST + 1] / ROW)
check_end(base, row, width)

-- Removes the entries before that of an image which is there.
local function take_back(groups, last, images)
  local at, size = 1, FIELD + ENTRY
  for i = 1, last, 2 do
    for _ = 1, i < last and groups[i + 1] or images - 1 do
      call('HDEL', base .. 'uris:' .. groups[i], sub(entries, at, at + FIELD - 1))
      at = at + size
    end
  end
end

-- The last number that struct.unpack returns is no value, but where it ended.
local function split(joined)
  return {unpack_number('<' .. rep('I4', #joined / ROW), joined)}
end

-- A hash gets an image or two: one call for each is faster than one that looks and one that writes.
local groups, at, size = split(hashes), 1, FIELD + ENTRY
for i = 1, #groups - 1, 2 do
  local hash = base .. 'uris:' .. groups[i]
  for j = 1, groups[i + 1] do
    local field = sub(entries, at, at + FIELD - 1)
    if call('HSETNX', hash, field, sub(entries, at + FIELD, at + size - 1)) == 0 then
      take_back(groups, i, j)
      return {now, 0}
    end
    at = at + size
  end
end

local count, runs_of = #rows / ROW, split(runs)
local in_use = tonumber(tables)
local table_of, prefix = nil, nil
at = 1
for i = 1, #runs_of - 1, 3 do
  local t, size = runs_of[i], ROW * runs_of[i + 2]
  if t ~= table_of then
    local here = t < in_use and generation .. ':' .. t or following .. ':' .. t - in_use
    table_of, prefix, at = t, base .. 'bucket:' .. here .. ':%d', 1
  end
  call('APPEND', string.format(prefix, runs_of[i + 1]), sub(rows, at, at + size - 1))
  at = at + size
end

for i = REST, #ARGV, 3 do
  write_block(base, row, width, ARGV[i], ARGV[i + 1], ARGV[i + 2])
  row = row + #ARGV[i + 1] / ROW
end

call('HSET', KEYS[1], 'rows', row)
call('HINCRBY', KEYS[1], 'live', count)
return {change(tip), 1}
