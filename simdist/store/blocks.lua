-- Part of the scripts that make rows. Writes the vectors and the records of rows that follow each
-- other, the first of which is `row`, and which lie in one block.
local function write_block(base, row, width, vectors, lengths, records)
  local call, place, size = redis.call, row % 64, #lengths / 4
  local key = base .. 'vectors:' .. math.floor(row / 64)
  if size == 64 then
    call('SET', key, vectors)
  else
    if place == 0 then
      -- The whole block at once: a string that grows takes twice what it needs.
      call('SETRANGE', key, 64 * width - 1, '\0')
    end
    call('SETRANGE', key, place * width, vectors)
  end
  key = base .. 'records:' .. math.floor(row / 64)
  if place == 0 then
    call('SET', key, lengths .. string.rep('\0', 256 - 4 * size) .. records)
  else
    call('SETRANGE', key, 4 * place, lengths)
    call('APPEND', key, records)
    if place + size == 64 then
      -- It has grown, and will not any more.
      call('SET', key, call('GET', key))
    end
  end
end

