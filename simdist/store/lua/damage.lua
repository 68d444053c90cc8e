-- Part of the scripts that go by what is stored. Where that cannot be what was written, they break
-- off, before they write anything.
local function damaged(key)
  error({err = 'DAMAGED ' .. key})
end

-- A count of the partition's state.
local function count_of(value)
  if not value or #value > 15 or not string.find(value, '^%d+$') then
    damaged(KEYS[1])
  end
  return tonumber(value)
end

-- Checks what a script counts on with; returns how many rows there are.
local function check_counts(base)
  local state = redis.call('HMGET', KEYS[1], 'rows', 'live', 'epoch')
  for i = 1, 3 do
    count_of(state[i])
  end
  if redis.call('STRLEN', base .. 'dead') % ROW ~= 0 then
    damaged(base .. 'dead')
  end
  return tonumber(state[1])
end

-- The row that an entry of a `uris` hash leads to.
local function row_of(entry, hash)
  if #entry ~= ENTRY then
    damaged(hash)
  end
  return (struct.unpack('<I4', entry))
end

-- The lengths of a block's records as they lie in `moved`: those of short ones in half the bytes.
local SHORT = 2 ^ 15
local function pack_moved(lengths)
  local short = {}
  for i = 1, BLOCK do
    local length = lengths[i]
    if length % DEAD >= SHORT then
      return struct.pack('<' .. string.rep('I4', BLOCK), unpack(lengths, 1, BLOCK))
    end
    short[i] = length < DEAD and length or length - DEAD + SHORT
  end
  return struct.pack('<' .. string.rep('I2', BLOCK), unpack(short))
end

local function unpack_moved(moved)
  if #moved ~= PLACE + LENGTHS / 2 then
    return {struct.unpack('<' .. string.rep('I4', BLOCK), moved, PLACE + 1)}
  end
  local lengths = {struct.unpack('<' .. string.rep('I2', BLOCK), moved, PLACE + 1)}
  for i = 1, BLOCK do
    lengths[i] = lengths[i] < SHORT and lengths[i] or lengths[i] - SHORT + DEAD
  end
  return lengths
end

-- The lengths of a block's records, whose sum fits to what there is; none if the block is gone. Of
-- one that is in a file they have its `place` there, and `width`, that of the codes that are here.
local function lengths_of(base, block, width)
  local vectors, records = base .. 'vectors:' .. block, base .. 'records:' .. block
  local held, size = redis.call('STRLEN', vectors), redis.call('STRLEN', records)
  if held == 0 and size == 0 then
    return nil
  end
  if size == 0 and held ~= BLOCK * width then
    local moved = redis.call('GET', base .. 'moved:' .. block) or ''
    if #moved ~= PLACE + LENGTHS and #moved ~= PLACE + LENGTHS / 2 then
      damaged(base .. 'moved:' .. block)
    end
    if held % BLOCK ~= 0 then
      damaged(vectors)
    end
    local lengths = unpack_moved(moved)
    lengths.place, lengths.width = string.sub(moved, 1, PLACE), held / BLOCK
    return lengths
  end
  if held ~= BLOCK * width then
    damaged(vectors)
  end
  if size < LENGTHS then
    damaged(records)
  end
  local lengths =
    {struct.unpack('<' .. string.rep('I4', BLOCK), redis.call('GETRANGE', records, 0, LENGTHS - 1))}
  local sum = LENGTHS
  for i = 1, BLOCK do
    sum = sum + lengths[i] % DEAD
  end
  if sum ~= size then
    damaged(records)
  end
  return lengths
end
