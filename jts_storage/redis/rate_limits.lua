-- What jts_storage/domain/rate_books.py does, in one step within Redis and by its clock.
-- KEYS: the book of an account, the epoch of this server, the accounts of the name.
-- ARGV: the call as JSON. Moments are microseconds, which a double holds exactly until 2255.

local ENTERED, END, LEASE, COST, HAS_LEFT = 1, 2, 3, 4, 5
local call = cjson.decode(ARGV[1])

local now = call.now
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- A server that began anew may have lost slots, all of them or the last second's: another window
-- has to pass. The same after a failover, since what was not copied yet is lost.
local run = call.run or string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local epoch = redis.call('HMGET', KEYS[2], 'run', 'since')
local since = tonumber(epoch[2])
if epoch[1] ~= run or since > now then
  since = call.op == 'reset' and 0 or now
  if call.op ~= 'state' then
    redis.call('HSET', KEYS[2], 'run', run, 'since', string.format('%.0f', since))
  end
end
if call.op == 'reset' then
  return {'reset', now}
end

local book = {slots = {}, days = {}, span = 0}
local kept = redis.call('GET', KEYS[1])
if kept then
  book = cmsgpack.unpack(kept)
end

local function free_at(slot, window)
  if window[3] == 1 then
    return slot[ENTERED] + window[2] + 1
  end
  return (slot[HAS_LEFT] == 1 and slot[END] or now) + window[2] + 1
end

-- Settle: end leases, begin days, drop what counts no more.
for _, slot in pairs(book.slots) do
  if slot[HAS_LEFT] == 1 then
    slot[END] = math.min(slot[END], now)
  elseif slot[END] <= now then
    slot[HAS_LEFT] = 1
  else
    slot[END] = math.min(slot[END], now + slot[LEASE])
  end
  slot[ENTERED] = math.min(slot[ENTERED], now)
end

local ends = {}
for number, day in ipairs(call.days) do
  local starts, start = day[3], nil
  for place = 1, #starts - 1 do
    if starts[place] <= now and now < starts[place + 1] then
      start, ends[number] = starts[place], starts[place + 1]
    end
  end
  if not start then
    return {'clock', now}
  end
  local known = book.days[day[2]]
  if not known then
    local mirrored = call.mirrored and call.mirrored[day[2]]
    if not call.mirrored then
      return {'mirror', now}
    end
    local used = 0
    if mirrored and mirrored[1] >= start then
      start, used = mirrored[1], mirrored[2]
    end
    book.days[day[2]] = {start, used}
  elseif known[1] > start then
    -- The calendar was set back. What counts of the later day may have been asked on this.
    if known[3] == start then
      book.days[day[2]] = {start, known[4] + known[2], known[1], known[2]}
    end
  elseif known[1] < start then
    local carried = known[3] == start and known[4] or 0
    for _, slot in pairs(book.slots) do
      if slot[END] > start then
        carried = carried + slot[COST]
      end
    end
    book.days[day[2]] = {start, carried, known[1], known[2]}
  end
end

-- The longest window of any who have asked, as it may not be the present one's.
book.span = book.span or 0
for _, window in ipairs(call.windows) do
  book.span = math.max(book.span, window[2])
end
local slots = {}
for name, slot in pairs(book.slots) do
  if slot[HAS_LEFT] == 0 or (book.span > 0 and slot[END] + book.span >= now) then
    slots[name] = slot
  end
end
book.slots = slots

local function counted(window)
  local sum = 0
  for _, slot in pairs(book.slots) do
    if free_at(slot, window) > now then
      sum = sum + slot[COST]
    end
  end
  return sum
end

local function undo(name)
  local cost, has_left = book.slots[name][COST], book.slots[name][HAS_LEFT] == 1
  book.slots[name] = nil
  if has_left then -- perhaps before midnight, and not counted on this day
    return
  end
  for _, used in pairs(book.days) do
    used[2] = math.max(0, used[2] - cost)
  end
end

-- For as long as anything counts in it, also what others have asked for.
local function keep()
  local ms = math.max(call.keep, redis.call('PTTL', KEYS[1]))
  for _, slot in pairs(book.slots) do
    ms = math.max(ms, (slot[END] - now + book.span) / 1000 + 60000)
  end
  redis.call('SET', KEYS[1], cmsgpack.pack(book), 'PX', string.format('%.0f', ms))
  redis.call('SADD', KEYS[3], call.account)
end

-- How much of each limit counts, of the days first.
local function counts()
  local all = {}
  for _, day in ipairs(call.days) do
    all[#all + 1] = book.days[day[2]][2]
  end
  for _, window in ipairs(call.windows) do
    all[#all + 1] = counted(window)
  end
  return all
end

local function wait_of(window)
  local silence = since > 0 and since + window[2] + call.settling + 1 - now or 0
  local left, free = call.cost - window[1], {}
  for _, slot in pairs(book.slots) do
    local at = free_at(slot, window)
    if at > now then
      left = left + slot[COST]
      free[#free + 1] = {at, slot[COST]}
    end
  end
  table.sort(free, function(one, other) return one[1] < other[1] end)
  for _, each in ipairs(free) do
    if left <= 0 then
      break
    end
    left = left - each[2]
    silence = math.max(silence, each[1] - now)
  end
  return math.max(0, silence)
end

if call.op == 'take' then
  if book.slots[call.slot] and book.slots[call.slot][HAS_LEFT] == 0 then
    undo(call.slot)
  end
  local spent, resets_at = 0, 0
  for number, day in ipairs(call.days) do
    if book.days[day[2]][2] + call.cost > day[1] and ends[number] > resets_at then
      spent, resets_at = number, ends[number]
    end
  end
  local wait = 0
  for _, window in ipairs(call.windows) do
    wait = math.max(wait, wait_of(window))
  end
  if spent == 0 and wait == 0 then
    book.slots[call.slot] = {now, now + call.lease, call.lease, call.cost, 0}
    for _, used in pairs(book.days) do -- those that others limit, too
      used[2] = used[2] + call.cost
    end
  end
  keep()
  if spent > 0 then
    return {'exhausted', now, spent, resets_at}
  end
  if wait > 0 then
    return {'refused', now, wait}
  end
  return {'granted', now, counts(), ends}
end

if call.op == 'leave' then
  local known = book.slots[call.slot]
  book.slots[call.slot] = {known and known[ENTERED] or now, now, call.lease, call.cost, 1}
  keep()
elseif call.op == 'forget' then
  if book.slots[call.slot] then
    undo(call.slot)
  end
  keep()
end

local in_flight = 0
for _, slot in pairs(book.slots) do
  if slot[HAS_LEFT] == 0 then
    in_flight = in_flight + slot[COST]
  end
end
return {'state', now, counts(), ends, in_flight}
