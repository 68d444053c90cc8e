-- Part of the scripts that make rows.

-- Checks, before anything is written, that the next row is where its block ends.
local function check_end(base, row, width)
  local block = math.floor(row / BLOCK)
  local lengths = lengths_of(base, block, width)
  if row % BLOCK == 0 then
    if lengths then
      damaged(KEYS[1])
    end
    return
  elseif not lengths then
    damaged(base .. 'records:' .. block)
  end
  for slot = 1, BLOCK do
    if (lengths[slot] == 0) ~= (slot > row % BLOCK) then
      damaged(base .. 'records:' .. block)
    end
  end
end

-- Writes the vectors and the records of rows that follow each other, the first of which is `row`,
-- and which lie in one block.
local function write_block(base, row, width, vectors, lengths, records)
  local call, slot, size = redis.call, row % BLOCK, #lengths / ROW
  local key = base .. 'vectors:' .. math.floor(row / BLOCK)
  if size == BLOCK then
    call('SET', key, vectors)
  else
    if slot == 0 then
      -- The whole block at once: a string that grows takes twice what it needs.
      call('SETRANGE', key, BLOCK * width - 1, '\0')
    end
    call('SETRANGE', key, slot * width, vectors)
  end
  key = base .. 'records:' .. math.floor(row / BLOCK)
  if slot == 0 then
    call('SET', key, lengths .. string.rep('\0', LENGTHS - ROW * size) .. records)
  else
    call('SETRANGE', key, ROW * slot, lengths)
    call('APPEND', key, records)
    if slot + size == BLOCK then
      -- It has grown, and will not any more.
      call('SET', key, call('GET', key))
    end
  end
end
