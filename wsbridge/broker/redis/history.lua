#!lua name=@LIBRARY@

-- The history of one user, on the server: each function is one atomic step. Loaded by server.py under a name with
-- the digest of this text, so that two versions of the bridge can share a server during a rollout.
--
-- Keys of one user, all with the user's digest as hash tag, hence in one slot:
--   KEYS[1]  string "epoch offset trimmed born"; outlives the entries. Its name is also the channel of the live stream.
--   KEYS[2]  list of entries, oldest first, contiguous up to the offset
--   KEYS[3]  sorted set of the digests of event keys, by the time at which they came
-- Data that is large, or for many users, has its own key: a string that expires, which entries reference. An entry is
-- '>c8I8I8I4' (epoch, offset, time in ms, length of the body) and the body, in the list and on the stream. A body ends
-- with its weight (the bytes of the event's data and id, wherever the data is) and the mark, '>I4I8'. The mark is set
-- here: the weights of all entries up to and with this one, counted from when the list was empty. So the bytes of any
-- part of the list are the difference of two marks, however the other entries went: by time, by count, by bytes. Times
-- are in ms, of `clock` unless the caller gives another one as `now` ('' if not).

local HEADER = '>c8I8I8I4'
local HEADER_BYTES = 28
local MARKED = 0x98 -- the first byte of a body that ends with a weight and a mark; earlier versions wrote 0x97 and neither
local STEP = 16 -- entries that are removed at a time: one call for each would cost more than it frees
local MESSAGE = 65536 -- bytes of entries in one message, at most one entry more
local TURNS = 10000 -- in one life
local STRIDE = 10000 -- ms between two readings of the server's clock; a longer or negative step means that the clock was set
local AHEAD = 10800000 -- ms that the server's clock may be set ahead before it drops ids of events too early

-- Memory of this process, which no snapshot restores and no replica copies. Lives and turns order the events of a server
-- without a clock, since clocks of servers differ and can be set. A life lasts from the start or promotion of this process
-- to its end or demotion. Within a life no key returns to older data. A mark is life * TURNS + turn.
local life, primacy = nil, nil -- the second is the server's id of its period as a primary
local turn, has_births = 1, false -- whether a position began in this turn
local spaces = {} -- by prefix and database: the turn in which positions were `forgotten`, and the `steps` of a reset in progress
local shown, shift, since = nil, 0, nil -- the clock's last reading, its error, and the time since which that is a guess
local early, corrected = 0, 0 -- a correction of the error ended at the second time; stamps since the first may be too early

-- Time that passes while the server's clock is set is not counted here; `look` makes up for it.
local function clock(now)
  if now ~= '' then return tonumber(now) end
  local time = redis.call('TIME')
  local reading = time[1] * 1000 + math.floor(time[2] / 1000)
  local passed = shown and reading - shown or -1
  if shown and (passed < 0 or passed > STRIDE) then shift = shift + passed end
  if passed < 0 or passed > STRIDE then since = since or reading - shift end
  shown = reading
  return reading - shift
end

-- The time up to which data has expired that lasts for `ttl`. None has while the error of the clock is a guess. After its
-- correction the data of that time may look too old, and lasts for `ttl` from the correction on.
local function expired_before(args, now, ttl)
  local before = now - ttl
  if args[1] ~= '' then return before end
  if since then return 0 end
  return before >= early and before < corrected and early - 1 or before
end

local function begin_life(seed)
  life = 10000000 + tonumber(string.sub(redis.sha1hex('life' .. seed), 1, 7), 16) % 90000000
  turn, has_births, spaces = 1, false, {}
end

-- Epoch, offset, trimmed and born; all but the offset as text. Makes a new epoch from a random seed if there is no position.
local function read(keys, seed)
  local epoch, offset, trimmed, born = string.match(redis.call('GET', keys[1]) or '', '^(%w+) (%d+) (%d+) (%d+)$')
  if epoch then return epoch, tonumber(offset), trimmed, born end
  redis.call('DEL', keys[2]) -- entries of a history whose position is gone
  if not life then begin_life(seed) end
  has_births = true
  return string.sub(redis.sha1hex(seed .. keys[1]), 1, 8), 0, '0', string.format('%d', life * TURNS + turn)
end

-- `top` is "epoch offset".
local function save(keys, top, trimmed, born, ttl)
  redis.call('SET', keys[1], top .. ' ' .. trimmed .. ' ' .. born, 'PX', ttl)
end

-- The weight of an entry and its mark; 0 if there is no entry, or one of a version without them. Such entries do not count
-- against the bound.
local function weighed(entry)
  if not entry or string.byte(entry, HEADER_BYTES + 1) ~= MARKED then return 0, 0 end
  return struct.unpack('>I4I8', entry, #entry - 11)
end

-- The bytes of the entries from this index to the newest one, whose mark is `mark`.
local function bytes_from(list, index, mark)
  local weight, upto = weighed(redis.call('LINDEX', list, index))
  return mark - upto + weight
end

-- The index of the oldest entry that counts: of the last `size` entries, as many of the newest as `most` bytes hold. The
-- newest entry counts whatever its weight. There are `kept` entries, and `mark` is the mark of the newest.
local function first_that_counts(list, kept, mark, size, most)
  local low, high = math.max(kept - size, 0), kept - 1
  if low >= high or mark <= most or bytes_from(list, low, mark) <= most then return low end
  while high - low > 1 do -- from `low` on they are too many bytes; from `high` on they fit, or that is the newest
    local middle = math.floor((low + high) / 2)
    if bytes_from(list, middle, mark) <= most then high = middle else low = middle end
  end
  return high
end

local function expire(list, before)
  local oldest = redis.call('LINDEX', list, 0)
  while oldest do
    local _, _, time = struct.unpack(HEADER, oldest)
    if time > before then return end
    redis.call('LPOP', list)
    oldest = redis.call('LINDEX', list, 0)
  end
end

local function expire_ids(ids, limits) redis.call('ZREMRANGEBYSCORE', ids, '-inf', limits.ids_before) end

-- Add the id, unless it has come within the dedupe ttl. Older ids may still be there.
local function is_duplicate(ids, key, limits)
  if redis.call('ZADD', ids, 'NX', limits.stamp, key) == 1 then return false end
  expire_ids(ids, limits)
  return redis.call('ZADD', ids, 'NX', limits.stamp, key) == 0
end

-- Store those events of one user that are new. `places` has two bytes for each event: its place among all events of the
-- call. `own` collects the results, also if a command fails: the entries, how many of them were pushed, the added ids.
local function store(keys, args, places, limits, own)
  local epoch, offset, trimmed, born = read(keys, args[2])
  local entries, added, outcomes, _, mark = own.entries, own.added, '', nil, nil
  for at = 1, #places, 2 do
    local high, low = string.byte(places, at, at + 1)
    local place = 9 + 2 * (high * 256 + low)
    local key, body = args[place], args[place + 1]
    if key ~= '' and is_duplicate(keys[3], key, limits) then
      outcomes = outcomes .. '0'
    else
      if key ~= '' then added[#added + 1] = key end
      offset = offset + 1
      if not mark then _, mark = weighed(redis.call('LINDEX', keys[2], -1)) end
      mark = mark + struct.unpack('>I4', body, #body - 3)
      local head = struct.pack(HEADER, epoch, offset, limits.now, #body + 8)
      entries[#entries + 1] = head .. body .. struct.pack('>I8', mark)
      outcomes = outcomes .. '1'
    end
  end
  local top = epoch .. ' ' .. string.format('%d', offset)
  if #entries > 0 then
    local kept = redis.call('RPUSH', keys[2], unpack(entries))
    own.pushed = #entries
    local surplus = first_that_counts(keys[2], kept, mark, limits.size, limits.most)
    if surplus > 0 then trimmed = string.format('%d', offset - kept + surplus) end
    -- Entries over the bound of bytes are removed at once, because `resume` only counts entries.
    if surplus >= STEP or surplus > math.max(kept - limits.size, 0) then own.surplus = surplus end
    own.is_due = offset % STEP < #entries
    redis.call('PEXPIRE', keys[2], args[4])
    redis.call('PEXPIRE', keys[3], limits.ids_ttl)
    save(keys, top, trimmed, born, args[6])
  end
  return top .. ' ' .. outcomes
end

-- Publish in messages of a bounded size: on a slow link, a long one would delay the reply to a ping.
local function publish(channel, entries)
  local first, size = 1, 0
  for place, entry in ipairs(entries) do
    size = size + #entry
    if size >= MESSAGE or place == #entries then
      redis.pcall('SPUBLISH', channel, first == place and entry or table.concat(entries, '', first, place))
      first, size = place + 1, 0
    end
  end
end

-- A command may fail because of a missing right or a key of another type. Then nothing is stored for this user: with an id
-- alone, the redelivery would count as a duplicate; after an entry without a new position, its offset would be used twice.
local function append(keys, args, places, limits)
  local own = { entries = {}, added = {}, pushed = 0 }
  local is_stored, reply = pcall(store, keys, args, places, limits, own)
  if not is_stored then
    if own.pushed > 0 then redis.pcall('RPOP', keys[2], own.pushed) end
    for _, key in ipairs(own.added) do redis.pcall('ZREM', keys[3], key) end
    return type(reply) == 'table' and reply or redis.error_reply('ERR ' .. tostring(reply))
  end
  -- They are stored. Sessions read entries from here whose message was lost.
  if own.surplus then redis.pcall('LTRIM', keys[2], own.surplus, -1) end
  if own.is_due then
    pcall(expire, keys[2], expired_before(args, limits.now, args[4]))
    pcall(expire_ids, keys[3], limits)
  end
  publish(keys[1], own.entries)
  return reply
end

-- keys: three for each user. args: now, seed, size, ttl, dedupe ttl, position ttl, max bytes of a history; for each user, the
-- number of events and their places (from 0) among the following ones, two bytes each; then digest of the key ('' if it has
-- none) and body of each event.
-- Returns for each user an error, or "epoch offset outcomes": the position afterwards, and for each event 1 if it is new.
redis.register_function('@LIBRARY@_append', function(keys, args)
  local now, dedupe_ttl, replies, at = clock(args[1]), tonumber(args[5]), {}, 1
  local limits = {
    now = now, stamp = string.format('%d', now), size = tonumber(args[3]), most = tonumber(args[7]),
    ids_before = string.format('%d', expired_before(args, now, dedupe_ttl)), ids_ttl = string.format('%d', dedupe_ttl + AHEAD),
  }
  for user = 1, #keys, 3 do
    local high, low = string.byte(args[8], at, at + 1)
    local last = at + 1 + 2 * (high * 256 + low)
    local places = string.sub(args[8], at + 2, last)
    replies[#replies + 1] = append({ keys[user], keys[user + 1], keys[user + 2] }, args, places, limits)
    at = last + 1
  end
  return replies
end)

-- args: now, seed, size, ttl, position ttl, epoch and offset after which entries are wanted ('' and 0 if none are), and
-- bytes after which no more are read. Returns epoch, offset, trimmed, the number of entries, and the entries after that
-- position: the first ones if there are too many, none if there is a gap.
redis.register_function('@LIBRARY@_resume', function(keys, args)
  local now = clock(args[1])
  local epoch, offset, trimmed, born = read(keys, args[2])
  save(keys, epoch .. ' ' .. string.format('%d', offset), trimmed, born, args[5])
  expire(keys[2], expired_before(args, now, args[4]))
  local kept = math.min(redis.call('LLEN', keys[2]), tonumber(args[3]))
  local entries, after = {}, tonumber(args[7])
  if args[6] == epoch and after < offset and after + kept >= offset then
    local place, size, most = after - offset, 0, tonumber(args[8])
    while place < 0 and size < most do
      for _, entry in ipairs(redis.call('LRANGE', keys[2], place, math.min(place + STEP - 1, -1))) do
        if size < most then entries[#entries + 1] = entry end
        size = size + #entry
      end
      place = place + STEP
    end
  end
  return { epoch, offset, tonumber(trimmed), kept, entries }
end)

-- args: ttl, place and some bytes of a body.
redis.register_function('@LIBRARY@_put', function(keys, args)
  redis.call('SETRANGE', keys[1], args[2], args[3])
  return redis.call('PEXPIRE', keys[1], args[1])
end)

-- args: size, ttl, and the minimum remaining lifetime of a complete body: an incomplete one has less. Returns whether the
-- body is complete; renews its expiry if it is.
redis.register_function('@LIBRARY@_renew', function(keys, args)
  if redis.call('PTTL', keys[1]) <= tonumber(args[3]) or redis.call('STRLEN', keys[1]) ~= tonumber(args[1]) then return 0 end
  return redis.call('PEXPIRE', keys[1], args[2])
end)

-- args: a message for all replicas that follow the user; shorter than any entry.
redis.register_function('@LIBRARY@_tell', function(keys, args)
  return redis.call('SPUBLISH', keys[1], args[1])
end)
