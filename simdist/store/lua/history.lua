-- Part of the scripts by which a reader or a writer notices that Redis went back in time. A moment
-- is the number of a change and its tip: random bytes, of which the last TIPS are kept.
local base = string.sub(KEYS[1], 1, -5)
local tips = base .. 'tips'

local function moment_of(epoch)
  local at = TIP * (epoch % TIPS)
  local tip = redis.call('GETRANGE', tips, at, at + TIP - 1)
  return struct.pack('<I8', epoch) .. tip .. string.rep('\0', TIP - #tip)
end

-- Whether a moment is no part of this history, which is at `epoch`. Of one that is too long ago
-- `unsure` says.
local function is_lost(moment, epoch, unsure)
  if moment == '' then
    return false
  end
  local seen = struct.unpack('<I8', moment)
  if epoch - seen >= TIPS then
    return unsure
  end
  return seen > epoch or moment_of(seen) ~= moment
end

-- One more change; returns its moment.
local function change(tip)
  local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
  redis.call('SETRANGE', tips, TIP * (epoch % TIPS), tip)
  return moment_of(epoch)
end

-- The moment of now, for whoever knows the partition by its mark and has seen a moment of it; none
-- if it was made anew, or lost what was seen.
local function now_for(born, seen)
  local state = redis.call('HMGET', KEYS[1], 'born', 'epoch')
  if (state[1] or '') ~= born then
    return nil
  end
  local epoch = count_of(state[2] or '0')
  if is_lost(seen, epoch, false) then
    return nil
  end
  return moment_of(epoch)
end
