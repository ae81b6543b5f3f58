-- Functions of the loss detector: did this server lose positions? Appended to history.lua and loaded with it: its local
-- functions and the memory of the process are used here.

-- Begin another life if this process was a replica in between.
local function live(seed)
  local info = redis.pcall('INFO', 'replication')
  local found = type(info) == 'string' and string.match(info, 'master_replid:(%w+)') or ''
  if not life or found ~= primacy or turn >= TURNS - 1 then begin_life(seed) end
  primacy = found
end

local function space_of(name)
  spaces[name] = spaces[name] or {}
  return spaces[name]
end

-- All commands of the functions and of the bridge, with the keys and the channel of a user; except INFO, which is optional,
-- and the reads of receipts.lua, which come before its writes.
local function needs(keys)
  local position, list, set, body = keys[1], keys[2], keys[3], keys[1] .. ':b'
  return {
    { 'GET', position }, { 'SET', position, '' }, { 'UNLINK', position },
    { 'DEL', list }, { 'LINDEX', list, 0 }, { 'LLEN', list }, { 'LPOP', list }, { 'LRANGE', list, 0, 0 },
    { 'LTRIM', list, 0, 0 }, { 'PEXPIRE', list, 1 }, { 'RPOP', list, 1 }, { 'RPUSH', list, '' },
    { 'PEXPIRE', set, 1 }, { 'ZADD', set, 0, '' }, { 'ZREM', set, '' }, { 'ZREMRANGEBYSCORE', set, 0, 0 },
    { 'SPUBLISH', position, '' }, { 'SSUBSCRIBE', position }, { 'SUNSUBSCRIBE', position }, { 'SCAN', 0 }, { 'TIME' },
    { 'SETRANGE', body, 0, '' }, { 'GETRANGE', body, 0, 0 }, { 'STRLEN', body }, { 'PTTL', body }, { 'PEXPIRE', body, 1 },
  }
end

-- args: a random seed, and the time by the caller's own count ('' if unknown). Returns the mark of the last completed turn,
-- and the time. Fails if another function would fail halfway: because of a missing right, or memory.
redis.register_function('@LIBRARY@_look', function(keys, args)
  for _, command in ipairs(needs(keys)) do
    if not redis.acl_check_cmd(unpack(command)) then
      return redis.error_reply('NOPERM this user may not run ' .. command[1] .. ' on ' .. (command[2] or 'it'))
    end
  end
  live(args[1])
  local now, counted = clock(''), tonumber(args[2])
  if since and counted then
    early, corrected = since < corrected and math.min(since, early) or since, counted
    now, shift, since = counted, shift + now - counted, nil
  end
  if has_births then turn, has_births = turn + 1, false end
  return { life * TURNS + turn - 1, now }
end)

-- Returns the position of each key, or false.
redis.register_function('@LIBRARY@_positions', function(keys)
  for place, key in ipairs(keys) do keys[place] = redis.call('GET', key) end
  return keys
end)

-- args: a random seed, the space, the mark of the caller's last look that missed nothing ('' if none), and the 'busy' reply
-- that has not changed for too long ('' if none). Returns the mark up to which positions must be dropped, as well as all
-- positions of other lives; 'done' if a replica has done so since that look; or 'busy' and a number that grows while
-- another replica does it. Positions that began in this life after that look are sound: within a life no key returns to
-- older data.
redis.register_function('@LIBRARY@_forget', function(_, args)
  live(args[1])
  local space, seen = space_of(args[2]), tonumber(args[3]) or 0
  local since = math.floor(seen / TURNS) == life and seen % TURNS or 0
  if space.forgotten and space.forgotten > since then return 'done' end
  if space.steps and args[4] ~= 'busy ' .. space.steps then return 'busy ' .. space.steps end
  space.steps = 0
  return life * TURNS + since
end)

-- args: the space and the mark that `forget` has returned.
redis.register_function('@LIBRARY@_drop', function(keys, args)
  local space, mark = space_of(args[1]), tonumber(args[2])
  if math.floor(mark / TURNS) ~= life then return redis.error_reply('ERR the server has begun another life') end
  space.steps = (space.steps or 0) + 1
  local born = string.match(redis.call('GET', keys[1]) or '', ' (%d+)$')
  if born and (math.floor(born / TURNS) ~= life or tonumber(born) <= mark) then redis.call('UNLINK', keys[1]) end
end)

-- args: a random seed, the space and that mark. Called after all of these positions were dropped.
redis.register_function('@LIBRARY@_forgotten', function(_, args)
  live(args[1])
  local space, mark = space_of(args[2]), tonumber(args[3])
  if math.floor(mark / TURNS) ~= life then return redis.error_reply('ERR the server has begun another life') end
  space.forgotten, space.steps = turn, nil
  turn, has_births = turn + 1, false
end)
