-- Part of the scripts that make rows. Writes the vectors and the records of rows that follow each
-- other, the first of which is `row`, and which lie in one block.
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
