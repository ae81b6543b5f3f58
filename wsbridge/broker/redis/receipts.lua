-- Receipts that are not published yet. Appended to history.lua and loaded with it: its local functions are used here.
--
-- A user belongs to one shard, by the digest of the user id. All keys of a shard have its number as hash tag:
--   :due    sorted set of receipts, by the time in ms at which each is due
--   :known  sorted set of the ids of receipts, by the time at which they came: a redelivery must not add one again
--   :u:…    string "epoch written handled" for a user with a receipt: how far connections have got that have ended, or
--           that have reported something. It expires after the last receipt is due.

-- keys: due, known, one for each user. args: now, ttl of ids, most receipts of the shard, lifetime of the users' keys; then id,
-- delay in ms and content of each receipt. Returns how many did not fit.
redis.register_function('@LIBRARY@_expect', function(keys, args)
  local now, refused = clock(args[1]), 0
  redis.call('ZREMRANGEBYSCORE', keys[2], '-inf', string.format('%d', now - args[2]))
  local room = tonumber(args[3]) - redis.call('ZCARD', keys[1])
  for place = 5, #args, 3 do
    if redis.call('ZSCORE', keys[2], args[place]) then
      -- it waits, or is done
    elseif room > 0 then
      redis.call('ZADD', keys[1], string.format('%d', now + args[place + 1]), args[place + 2])
      redis.call('ZADD', keys[2], string.format('%d', now), args[place])
      room = room - 1
    else
      refused = refused + 1
    end
  end
  redis.call('PEXPIRE', keys[2], args[2])
  for place = 3, #keys do
    if not redis.call('SET', keys[place], '', 'NX', 'PX', args[4]) then redis.call('PEXPIRE', keys[place], args[4], 'GT') end
  end
  return refused
end)

-- keys: one for each user. args: "epoch written handled" of each user. Of one epoch, the largest numbers are kept.
redis.register_function('@LIBRARY@_note', function(keys, args)
  for place, key in ipairs(keys) do
    local old = redis.call('GET', key)
    if old then
      local epoch, written, handled = string.match(args[place], '^(%w+) (%d+) (%d+)$')
      local before, written_before, handled_before = string.match(old, '^(%w+) (%d+) (%d+)$')
      if before == epoch then
        written = math.max(tonumber(written), tonumber(written_before))
        handled = math.max(tonumber(handled), tonumber(handled_before))
      end
      redis.call('SET', key, string.format('%s %d %d', epoch, written, handled), 'KEEPTTL')
    end
  end
end)

-- keys: due. args: now, lease in ms, most receipts. Returns how many wait, and those that are due, which are due again after
-- the lease.
redis.register_function('@LIBRARY@_due', function(keys, args)
  local now = clock(args[1])
  local found = redis.call('ZRANGEBYSCORE', keys[1], '-inf', string.format('%d', now), 'LIMIT', 0, args[3])
  for _, receipt in ipairs(found) do redis.call('ZADD', keys[1], 'XX', string.format('%d', now + args[2]), receipt) end
  return { redis.call('ZCARD', keys[1]), found }
end)
