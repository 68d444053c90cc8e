-- See `scripts.move`. The rest of the arguments: for each block its number, the lengths of its records
-- as they were when it was read, and what it is to be: where it is, or '', its vectors, its records.
local now = now_for(born, seen)
if not now then
  return false
end
local call, sub, rep = redis.call, string.sub, string.rep
if (call('HGET', KEYS[1], 'returning') or '') ~= returning then
  -- The last call may have been sent once more.
  return {now, last == '1' and call('HEXISTS', KEYS[1], 'bits') == 0 and 0 or -1}
end
local done = 0
for i = REST, #ARGV, 5 do
  local block, place, vectors, records = ARGV[i], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local lengths = lengths_of(base, block, tonumber(width))
  local were = {struct.unpack('<' .. rep('I4', BLOCK), ARGV[i + 1])}
  -- It is gone, or somebody else has moved it.
  if lengths and (lengths.place == nil) == (place ~= '') then
    local size, at, died = #vectors / BLOCK, 0, {}
    for slot = 0, BLOCK - 1 do
      local length, was = lengths[slot + 1], were[slot + 1]
      if length % DEAD ~= was % DEAD then
        damaged(base .. 'vectors:' .. block)
      end
      if length ~= was then
        died[#died + 1] = {slot * size, at, length % DEAD}
      end
      at = at + length % DEAD
    end
    local key, moved = base .. 'records:' .. block, base .. 'moved:' .. block
    call('SET', base .. 'vectors:' .. block, vectors)
    if place ~= '' then
      call('SET', moved, place .. pack_moved(lengths))
      call('UNLINK', key)
    else
      call('SET', key, struct.pack('<' .. rep('I4', BLOCK), unpack(lengths, 1, BLOCK)) .. records)
      call('UNLINK', moved)
    end
    -- What was deleted since it was read.
    for _, row in ipairs(died) do
      call('SETRANGE', base .. 'vectors:' .. block, row[1], rep('\0', size))
      if place == '' then
        call('SETRANGE', key, LENGTHS + row[2], rep('\0', row[3]))
      end
    end
    done = done + 1
  end
end
if last == '1' then
  call('HDEL', KEYS[1], 'bits', 'moved_to', 'returning')
end
return {now, done}
