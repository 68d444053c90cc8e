-- Commits a batch of images none of which is there yet: all of it or nothing. Whoever sends it knows
-- which rows it will get, so that hardly anything is left to do here; `commit` does the rest.
-- KEYS: meta
-- ARGV: 1 generation, 2 its number of tables, 3 next generation (0: none), 4 the first row,
--       5 u32 pairs: a `uris` hash and how many of the images belong into it; then for these images,
--       in that order: 6 fields of 11 bytes and entries of 12, both of an image side by side;
--       7 u32 triples: a table (those of the next generation after the others), a bucket in it, and
--       how many of the images that come next belong into it; of all images in the first table,
--       then in the second and so on; 8 u32 rows of all images;
--       9 and so on: stored vectors, u32 lengths of records, records, of each block the three;
--       each end to end. No URI may come twice.
-- Returns 1; or nil if an image is there already, if the first row would be another, or if the
-- collection has other generations by now.
local base = string.sub(KEYS[1], 1, -5)
local call, rep, sub, unpack_number = redis.call, string.rep, string.sub, struct.unpack
local state = call('HMGET', KEYS[1], 'generation', 'next', 'rows')
if state[1] ~= ARGV[1] or state[2] ~= ARGV[3] or state[3] ~= ARGV[4] then
  return false
end

-- The last number that struct.unpack returns is no value, but where it ended.
local function split(joined, format, size)
  return {unpack_number('<' .. rep(format, #joined / size), joined)}
end

local hashes, at = split(ARGV[5], 'I4', 4), 1
for i = 1, #hashes - 1, 2 do
  local size = hashes[i + 1]
  local fields = {unpack_number(rep('c11xxxxxxxxxxxx', size), ARGV[6], at)}
  local entries = call('HMGET', base .. 'uris:' .. hashes[i], unpack(fields, 1, size))
  for j = 1, size do
    if entries[j] then
      return false
    end
  end
  at = at + 23 * size
end

at = 1
for i = 1, #hashes - 1, 2 do
  local size = hashes[i + 1]
  local pairs_of = {unpack_number(rep('c11c12', size), ARGV[6], at)}
  call('HSET', base .. 'uris:' .. hashes[i], unpack(pairs_of, 1, 2 * size))
  at = at + 23 * size
end

local count, runs = #ARGV[8] / 4, split(ARGV[7], 'I4', 4)
local table_of, prefix = nil, nil
at = 1
for i = 1, #runs - 1, 3 do
  local t, size = runs[i], 4 * runs[i + 2]
  if t ~= table_of then
    local tables = tonumber(ARGV[2])
    local here = t < tables and ARGV[1] .. ':' .. t or ARGV[3] .. ':' .. t - tables
    table_of, prefix, at = t, base .. 'bucket:' .. here .. ':%d', 1
  end
  call('APPEND', string.format(prefix, runs[i + 1]), sub(ARGV[8], at, at + size - 1))
  at = at + size
end

local row = tonumber(ARGV[4])
local width = #ARGV[9] / (#ARGV[10] / 4)
for i = 9, #ARGV, 3 do
  write_block(base, row, width, ARGV[i], ARGV[i + 1], ARGV[i + 2])
  row = row + #ARGV[i + 1] / 4
end

call('HSET', KEYS[1], 'rows', row)
call('HINCRBY', KEYS[1], 'live', count)
call('HINCRBY', KEYS[1], 'epoch', 1)
return 1
