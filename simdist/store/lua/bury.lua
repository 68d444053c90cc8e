-- Part of the scripts that end rows. Nothing is left of a dead row but its slot: the vector and the
-- record are zeros, and the record's length has its highest bit set. Once all rows of a block are
-- dead, the block goes.

-- Sorts rows that are to end, and returns the lengths in each of their blocks. To be called before
-- anything is written: all must be alive.
local function read_blocks(base, rows, width)
  table.sort(rows)
  local blocks = {}
  for i, row in ipairs(rows) do
    local block = math.floor(row / BLOCK)
    local lengths = blocks[block] or lengths_of(base, block, width)
    local length = lengths and lengths[row % BLOCK + 1] or 0
    if length == 0 or length >= DEAD or row == rows[i - 1] then
      damaged(base .. 'records:' .. block)
    end
    blocks[block] = lengths
  end
  return blocks
end

local function bury(base, rows, blocks, width)
  local i = 1
  while i <= #rows do
    local block = math.floor(rows[i] / BLOCK)
    local vectors, records = base .. 'vectors:' .. block, base .. 'records:' .. block
    local moved, lengths = base .. 'moved:' .. block, blocks[block]
    local here = lengths.width or width
    while i <= #rows and math.floor(rows[i] / BLOCK) == block do
      local slot, start = rows[i] % BLOCK, LENGTHS
      for j = 1, slot do
        start = start + lengths[j] % DEAD
      end
      local length = lengths[slot + 1]
      lengths[slot + 1] = length + DEAD
      redis.call('SETRANGE', vectors, slot * here, string.rep('\0', here))
      if not lengths.place then
        redis.call('SETRANGE', records, start, string.rep('\0', length))
      end
      i = i + 1
    end
    local alive = false
    for j = 1, BLOCK do
      alive = alive or lengths[j] < DEAD
    end
    if alive then
      if lengths.place then
        redis.call('SETRANGE', moved, PLACE, pack_moved(lengths))
      else
        local changed = struct.pack('<' .. string.rep('I4', BLOCK), unpack(lengths, 1, BLOCK))
        redis.call('SETRANGE', records, 0, changed)
      end
    else
      redis.call('UNLINK', vectors, records, moved)
    end
  end
end
