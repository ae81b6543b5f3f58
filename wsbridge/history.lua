#!lua name=@LIBRARY@

-- The history of one user, on the server: each function is one atomic step. Loaded by redis_server.py under a name with
-- the digest of this text, so that two versions of the bridge can share a server during a rollout.
--
-- Keys of one user, all with the user's digest as hash tag, hence in one slot:
--   KEYS[1]  string "epoch offset trimmed born"; outlives the entries. Its name is also the channel of the live stream.
--   KEYS[2]  list of entries, oldest first, contiguous up to the offset
--   KEYS[3]  sorted set of the digests of event keys, by the time at which they came
-- An entry is '>c8I8I8I4' (epoch, offset, time in ms, length of the body) and the body, in the list and on the stream.
-- Times are in ms. `now` is the server's own clock unless the caller says another one ('' if not).

local HEADER = '>c8I8I8I4'
local STEP = 16 -- what is too much or too old goes so many entries at a time: a call each would cost more than it frees
local BUSY = 10000 -- ms that a replica has to forget all positions
-- What no snapshot restores: who this very process is, when it was last rid of positions that could not be trusted, and
-- when a replica began to rid it of them.
local process, renewed, renewing = nil, 0, 0

local function clock(now)
  if now ~= '' then return tonumber(now) end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Epoch, offset, trimmed and born; a new epoch, from a random seed, where there is none.
local function read(keys, seed, now)
  local epoch, offset, trimmed, born = string.match(redis.call('GET', keys[1]) or '', '^(%w+) (%d+) (%d+) (%d+)$')
  if epoch then return epoch, tonumber(offset), tonumber(trimmed), born end
  redis.call('DEL', keys[2]) -- what is left of a history that has no position any more
  return string.sub(redis.sha1hex(seed .. keys[1]), 1, 8), 0, 0, string.format('%d', now)
end

local function save(keys, epoch, offset, trimmed, born, ttl)
  redis.call('SET', keys[1], string.format('%s %d %d %s', epoch, offset, trimmed, born), 'PX', ttl)
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

-- args: now, seed, size, ttl, dedupe ttl, position ttl; then digest of the key ('' if it has none) and body of each event.
-- Returns "epoch offset outcomes", the position after it all, and 1 (stored) or 0 (duplicate) for each event.
redis.register_function('@LIBRARY@_append', function(keys, args)
  local now, size, ttl, remember = clock(args[1]), tonumber(args[3]), tonumber(args[4]), tonumber(args[5])
  local epoch, offset, trimmed, born = read(keys, args[2], now)
  local outcomes, entries = {}, {}
  redis.call('ZREMRANGEBYSCORE', keys[3], '-inf', now - remember)
  for place = 7, #args, 2 do
    local key, body = args[place], args[place + 1]
    if key ~= '' and redis.call('ZADD', keys[3], 'NX', now, key) == 0 then
      outcomes[#outcomes + 1] = '0'
    else
      offset = offset + 1
      entries[#entries + 1] = struct.pack(HEADER, epoch, offset, now, #body) .. body
      outcomes[#outcomes + 1] = '1'
    end
  end
  if #entries > 0 then
    local kept = 0
    for _, entry in ipairs(entries) do kept = redis.call('RPUSH', keys[2], entry) end
    if kept >= size + STEP then redis.call('LTRIM', keys[2], size > 0 and -size or kept, -1) end
    if kept > size then trimmed = offset - size end
    if offset % STEP == 0 then expire(keys[2], now - ttl) end
    redis.call('PEXPIRE', keys[2], ttl)
    redis.call('PEXPIRE', keys[3], remember)
    save(keys, epoch, offset, trimmed, born, args[6])
    redis.call('SPUBLISH', keys[1], #entries == 1 and entries[1] or table.concat(entries))
  end
  return epoch .. ' ' .. offset .. ' ' .. table.concat(outcomes)
end)

-- args: now, seed, size, ttl, position ttl, epoch and offset after which entries are wanted ('' and 0 if none are).
-- Returns epoch, offset, trimmed, how many entries there are, and all entries after that position or none.
redis.register_function('@LIBRARY@_resume', function(keys, args)
  local now = clock(args[1])
  local epoch, offset, trimmed, born = read(keys, args[2], now)
  save(keys, epoch, offset, trimmed, born, args[5])
  expire(keys[2], now - tonumber(args[4]))
  local kept = math.min(redis.call('LLEN', keys[2]), tonumber(args[3]))
  local entries, after = {}, tonumber(args[7])
  if args[6] == epoch and after < offset and after + kept >= offset then
    entries = redis.call('LRANGE', keys[2], after - offset, -1)
  end
  return { epoch, offset, trimmed, kept, entries }
end)

-- args: a message for all who follow the user's stream; shorter than any entry.
redis.register_function('@LIBRARY@_tell', function(keys, args)
  return redis.call('SPUBLISH', keys[1], args[1])
end)

-- args: a random name. The name of this process: the first that it was given.
redis.register_function('@LIBRARY@_process', function(_, args)
  process = process or args[1]
  return process
end)

-- args: how long ago the caller has looked last, and the name of the process that it then saw. Before which time positions
-- are to be forgotten that were born before it; 'done' if somebody did so since; 'busy' while another one is at it.
-- Within one process nothing goes back: what is missing was deleted, and what was born since is sound.
redis.register_function('@LIBRARY@_forget', function(_, args)
  local now = clock('')
  if renewed > now - args[1] then return 'done' end
  if renewing > now - BUSY then return 'busy' end
  renewing = now
  return process == args[2] and now - args[1] or now + BUSY
end)

-- args: forget the position if it was born before this time.
redis.register_function('@LIBRARY@_drop', function(keys, args)
  local born = string.match(redis.call('GET', keys[1]) or '', ' (%d+)$')
  if born and tonumber(born) < tonumber(args[1]) then redis.call('UNLINK', keys[1]) end
end)

redis.register_function('@LIBRARY@_forgotten', function()
  renewing, renewed = 0, clock('')
  return renewed
end)
