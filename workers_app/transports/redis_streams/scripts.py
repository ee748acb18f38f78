"""The Lua scripts: what must happen on the server in one piece.

A message is added without one, which would double the cost. An entry holds `m`, the
message, and, if it was delivered before, `d`: how many of its deliveries ended by a
lease that ran out. A script takes its streams with the most urgent first, and says
which key is at fault when one is no stream.
"""

from __future__ import annotations

_SAFE = """
local function safe(key, ...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then
    if string.find(reply.err, 'NOGROUP', 1, true) then return nil end
    error(reply.err .. ' (key ' .. key .. ')', 0)
  end
  return reply
end
"""

_BURY = """
local function bury(key, dead, group, id, fields, deliveries, reason, most)
  redis.call('XADD', dead, 'MAXLEN', most, '*', 'm', fields[2], 'd', deliveries,
             'reason', reason, 'stream', key, 'id', id)
  local left = redis.call('PTTL', key)
  if left > 0 then redis.call('PEXPIRE', dead, left) end
  redis.call('XACK', key, group, id)
  redis.call('XDEL', key, id)
end
"""

_GIVE_BACK = """
local function give_back(key, group, pending)
  local entry = redis.call('XRANGE', key, pending[1], pending[1])[1]
  if entry then
    local lapsed = pending[4] - 1 + (tonumber(entry[2][4]) or 0)
    redis.call('XADD', key, '*', 'm', entry[2][2], 'd', lapsed)
  end
  redis.call('XACK', key, group, pending[1])
  redis.call('XDEL', key, pending[1])
end
"""

DECLARE = """
for _, key in ipairs(KEYS) do
  local reply = redis.pcall('XGROUP', 'CREATE', key, ARGV[1], '0', 'MKSTREAM')
  if reply.err and not string.find(reply.err, 'BUSYGROUP', 1, true) then
    return redis.error_reply(reply.err .. ' (key ' .. key .. ')')
  end
  if ARGV[2] ~= '0' then redis.call('PEXPIRE', key, ARGV[2]) end
end
"""
"""KEYS streams; ARGV group, expiry in ms or 0."""

FETCH = (
    _SAFE
    + """
local found, left = {}, tonumber(ARGV[3])
local function read(key)
  return safe(key, 'XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', left,
              'STREAMS', key, '>')
end
for _, key in ipairs(KEYS) do
  if left <= 0 then break end
  local reply = read(key)
  if reply == nil then
    redis.call('XGROUP', 'CREATE', key, ARGV[1], '0', 'MKSTREAM')
    reply = read(key)
  end
  for _, entry in ipairs(reply and reply[1][2] or {}) do
    found[#found + 1] = {key, entry[1], entry[2]}
    left = left - 1
  end
end
return {found, {}}
"""
)
"""KEYS streams; ARGV group, consumer, most entries. Returns entries, and nothing
buried. A plain XREADGROUP over several streams would take some from each."""

RECOVER = (
    _SAFE
    + _BURY
    + """
local group, consumer, left = ARGV[1], ARGV[2], tonumber(ARGV[3])
local found, buried, streams = {}, {}, #KEYS / 2
local function forget_idle(key)
  for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', key, group)) do
    local info = {}
    for i = 1, #flat, 2 do info[flat[i]] = flat[i + 1] end
    if info.name ~= consumer and info.pending == 0
        and info.idle > tonumber(ARGV[7]) then
      redis.call('XGROUP', 'DELCONSUMER', key, group, info.name)
    end
  end
end
local function recover(key, dead, pending)
  local entry = redis.call('XRANGE', key, pending[1], pending[1])[1]
  if not entry then
    redis.call('XACK', key, group, pending[1])
    return
  end
  local deliveries = pending[4] + (tonumber(entry[2][4]) or 0)
  if deliveries >= tonumber(ARGV[5]) then
    bury(key, dead, group, pending[1], entry[2], deliveries, 'deliveries', ARGV[6])
    buried[#buried + 1] = {key, pending[1], deliveries}
    return
  end
  redis.call('XCLAIM', key, group, consumer, 0, pending[1])
  found[#found + 1] = {key, pending[1], {'m', entry[2][2], 'd', deliveries}}
  left = left - 1
end
for i = 1, streams do
  if left <= 0 then break end
  local pending = safe(KEYS[i], 'XPENDING', KEYS[i], group, 'IDLE', ARGV[4],
                       '-', '+', left)
  if pending then
    for _, one in ipairs(pending) do recover(KEYS[i], KEYS[streams + i], one) end
    forget_idle(KEYS[i])
  end
end
return {found, buried}
"""
)
"""KEYS streams, then the dead letters of each; ARGV group, consumer, most entries,
lease in ms, most deliveries, most dead letters, idle ms after which a consumer that
holds nothing goes.
Returns entries, and {stream, id, deliveries} of those buried."""

ACK = """
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
return redis.call('XDEL', KEYS[1], ARGV[2])
"""
"""KEYS the stream; ARGV group, id. Apart, a lost connection would leave an entry that
nobody is given any more."""

REJECT = (
    _BURY
    + """
local entry = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])[1]
if entry then
  bury(KEYS[1], KEYS[2], ARGV[1], ARGV[2], entry[2], tonumber(entry[2][4]) or 0,
       ARGV[3], ARGV[4])
end
"""
)
"""KEYS stream, dead letters; ARGV group, id, reason, most dead letters."""

REQUEUE = (
    _SAFE
    + _GIVE_BACK
    + """
local pending = safe(KEYS[1], 'XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1,
                     ARGV[2])
if not pending or not pending[1] then return 0 end
give_back(KEYS[1], ARGV[1], pending[1])
return 1
"""
)
"""KEYS the stream; ARGV group, consumer, id. Only what this consumer still holds."""

RELEASE = (
    _SAFE
    + _GIVE_BACK
    + """
local group, consumer = ARGV[1], ARGV[2]
for _, key in ipairs(KEYS) do
  local pending
  repeat
    pending = safe(key, 'XPENDING', key, group, '-', '+', 1000, consumer)
    for _, one in ipairs(pending or {}) do give_back(key, group, one) end
  until not pending or #pending == 0
  if pending then redis.call('XGROUP', 'DELCONSUMER', key, group, consumer) end
end
"""
)
"""KEYS streams; ARGV group, consumer: gives back all that it holds, and forgets it."""

RENEW = (
    _SAFE
    + """
local renewed = 0
for i = 3, #ARGV do
  local pending = safe(KEYS[1], 'XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1,
                       ARGV[2])
  if pending and pending[1] then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
    renewed = renewed + 1
  end
end
return renewed
"""
)
"""KEYS the stream; ARGV group, consumer, ids. Only its owner renews an entry, and
JUSTID does not count as a delivery."""

SIZE = (
    _SAFE
    + """
local ready = 0
for _, key in ipairs(KEYS) do
  local pending = safe(key, 'XPENDING', key, ARGV[1])
  ready = ready + safe(key, 'XLEN', key) - (pending and pending[1] or 0)
end
return ready
"""
)
"""KEYS streams; ARGV group. Returns how many entries nobody holds."""

PURGE = (
    _SAFE
    + """
local purged = 0
for _, key in ipairs(KEYS) do
  local after = '-'
  for _, flat in ipairs(safe(key, 'EXISTS', key) == 1
                        and safe(key, 'XINFO', 'GROUPS', key) or {}) do
    local info = {}
    for i = 1, #flat, 2 do info[flat[i]] = flat[i + 1] end
    if info.name == ARGV[1] then after = '(' .. info['last-delivered-id'] end
  end
  local entries
  repeat
    entries = redis.call('XRANGE', key, after, '+', 'COUNT', 1000)
    for _, entry in ipairs(entries) do
      purged = purged + redis.call('XDEL', key, entry[1])
    end
  until #entries == 0
end
return purged
"""
)
"""KEYS streams; ARGV group. What a consumer holds stays, as on RabbitMQ."""
