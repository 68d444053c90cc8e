-- Part of the scripts that end rows. Of a dead row nothing is left but its place: the vector and the
-- record are zeros, and the record's length has its highest bit set. Once all rows of a block are
-- dead, the block goes.
local function bury(base, rows, width)
  table.sort(rows)
  local i = 1
  while i <= #rows do
    local block = math.floor(rows[i] / 64)
    local vectors, records = base .. 'vectors:' .. block, base .. 'records:' .. block
    local sizes = redis.call('GETRANGE', records, 0, 255)
    local lengths = {struct.unpack('<' .. string.rep('I4', 64), sizes)}
    while i <= #rows and math.floor(rows[i] / 64) == block do
      local place, start = rows[i] % 64, 256
      for j = 1, place do
        start = start + lengths[j] % 2 ^ 31
      end
      local length = lengths[place + 1]
      lengths[place + 1] = length + 2 ^ 31
      redis.call('SETRANGE', vectors, place * width, string.rep('\0', width))
      redis.call('SETRANGE', records, start, string.rep('\0', length))
      i = i + 1
    end
    local alive = false
    for j = 1, 64 do
      alive = alive or lengths[j] < 2 ^ 31
    end
    if alive then
      local changed = struct.pack('<' .. string.rep('I4', 64), unpack(lengths, 1, 64))
      redis.call('SETRANGE', records, 0, changed)
    else
      redis.call('UNLINK', vectors, records)
    end
  end
end
