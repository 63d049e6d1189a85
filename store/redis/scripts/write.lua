#!lua
-- Writes rows and the progress, all or nothing. What fails in a script is not rolled back, so everything that can fail is
-- tried before the first write: that each key is of its type, and that the user may do everything.
--
-- KEYS: 1 state, 2 producers, 3 producers:ages, 4 logs, 5 logs:names, 6 logs:cleared, 7 keys, 8 keys:ages, 9 letters,
--       10 letters:open, 11 letters:discarded, 12 letters:heads, 13 letters:records, 14 letters:marks,
--       15 letters:spans, 16 logs:written, 17 letters:principals, then the streams of the logs, and then what is aside of each.
-- ARGV: 1 epoch, 2 revision, 3 next revision, 4 cursor, 5 rejected, 6 channel, 7 partition, 8 the partition's clock in
--       microseconds, 9 how many more records are set aside, 10 how many logs logs:written names,
--       11 the progress's trouble;
--       then, each behind how many there are:
--         producers  producer, last time, progress
--         logs       name, what is recorded of it, + if it is to be listed from now on and - if not any more, 1 if it was
--                    cleared, the first position that is written, how many messages, the messages, how many positions to
--                    erase, those
--         keys       key, digest
--         letters    id, mark of the one before, then '' to delete it, or 1 for open and 0 for discarded, head, record,
--                    mark, 1 if it has several marks
--         principals principal, how many more open letters are of it
-- Returns 'ok' or 'fenced'.
local call, K, A = redis.call, KEYS, ARGV
local CHUNK = 500 -- how many arguments are given to one command
local NODE, NODE_BYTES = 100, 4096 -- how much a node of a stream has at most (stream-node-max-entries and -bytes)

local state = call('HMGET', K[1], 'owner', 'epoch', 'revision', 'ordinal', 'written', 'set_aside')
if not state[1] or state[1] == '' or state[2] ~= A[1] or state[3] ~= A[2] then return 'fenced' end

local producers = 12
local logs = producers + 1 + 3 * A[producers]
local keys, erases = logs + 1, false
for i = 1, A[logs] do
	local stream, first, count = K[17 + i], A[keys + 4], tonumber(A[keys + 5])
	-- A stream that has more than it should would not take what follows.
	if #call('XREVRANGE', stream, '+', first .. '-0', 'COUNT', 1) > 0 then
		error({err = 'WRONGTYPE ' .. stream .. ' has entries that Drainmark did not write'})
	end
	keys = keys + 6 + count
	if A[keys] ~= '0' then
		erases = true
		call('ZCARD', K[17 + A[logs] + i])
	end
	keys = keys + 1 + A[keys]
end
local letters = keys + 1 + 2 * A[keys]
local has_letters = A[letters] ~= '0'

-- The types.
for _, hash in ipairs({2, 4, 7}) do call('HLEN', K[hash]) end
for _, sorted in ipairs({3, 5, 8, 16}) do call('ZCARD', K[sorted]) end
call('SCARD', K[6])
if has_letters then
	for _, sorted in ipairs({9, 10, 11, 14, 15}) do call('ZCARD', K[sorted]) end
	for _, hash in ipairs({12, 13, 17}) do call('HLEN', K[hash]) end
end
-- And the permissions.
local commands = {{'XADD', K[1], '1-0', 'm', ''}, {'HSET', K[1], '', ''}, {'ZADD', K[1], '0', ''}, {'SADD', K[1], ''}, {'PUBLISH', A[6], ''},
	{'ZRANGE', K[1], '0', '0'}, {'ZREMRANGEBYSCORE', K[1], '0', '0'}}
if has_letters then
	for _, command in ipairs({{'ZSCORE', K[1], ''}, {'ZREM', K[1], ''}, {'HGET', K[1], ''}, {'HDEL', K[1], ''}}) do
		commands[#commands + 1] = command
	end
end
if erases then
	for _, command in ipairs({{'XDEL', K[1], '1-0'}, {'XRANGE', K[1], '-', '+'}, {'ZREM', K[1], ''}}) do commands[#commands + 1] = command end
end
for _, command in ipairs(commands) do
	if not redis.acl_check_cmd(unpack(command)) then
		error({err = 'NOPERM this user has no permissions to run ' .. command[1]})
	end
end
-- From here on nothing fails.

local function chunks(command, key, arguments)
	for from = 1, #arguments, CHUNK do
		call(command, key, unpack(arguments, from, math.min(from + CHUNK - 1, #arguments)))
	end
end

-- What is deleted from a stream stays in the memory of its node until nothing of that is left. So the neighbours that may be
-- in the node are put aside with a message that is erased.
local function neighbours(stream, command, from, to, into, size)
	for _ = 1, NODE - 1 do
		local entry = call(command, stream, from, to, 'COUNT', 1)[1]
		if not entry then return end
		size = size + #entry[2][2]
		if size > NODE_BYTES then return end
		into[#into + 1] = entry
		from = '(' .. entry[1]
	end
end

local function erase(stream, aside, position)
	local known = call('ZRANGE', aside, position, position, 'BYSCORE')[1]
	local moved = {}
	if known then
		call('ZREM', aside, known)
	else
		local id = position .. '-0'
		local entry = call('XRANGE', stream, id, id)[1]
		if not entry then return end
		known = position .. ' ' .. entry[2][2]
		neighbours(stream, 'XRANGE', '(' .. id, '+', moved, #known)
		neighbours(stream, 'XREVRANGE', '(' .. id, '-', moved, #known)
		call('XDEL', stream, id)
	end
	for _, entry in ipairs(moved) do
		local at = string.match(entry[1], '^%d+')
		call('ZADD', aside, at, at .. ' ' .. entry[2][2])
		call('XDEL', stream, entry[1])
	end
	call('ZADD', aside, position, string.match(known, '^%S+ %S+ %S+ %S+ %S+ ') .. 'erased\n')
end

local infos, written, at = {}, {}, logs + 1
for i = 1, A[logs] do
	local name, stream, position, messages = A[at], K[17 + i], tonumber(A[at + 4]), at + 6
	infos[#infos + 1], infos[#infos + 2] = name, A[at + 1]
	written[#written + 1], written[#written + 2] = A[3], name
	if A[at + 2] == '+' then call('ZADD', K[5], 0, name) end
	if A[at + 2] == '-' then call('ZREM', K[5], name) end
	if A[at + 3] == '1' then call('SADD', K[6], name) end
	at = messages + A[at + 5]
	for message = messages, at - 1 do
		call('XADD', stream, position .. '-0', 'm', A[message])
		position = position + 1
	end
	for erased = at + 1, at + A[at] do erase(stream, K[17 + A[logs] + i], A[erased]) end
	at = at + 1 + A[at]
end
chunks('HSET', K[4], infos)
chunks('ZADD', K[16], written)

local digests, ages = {}, {}
for key = keys + 1, letters - 1, 2 do
	digests[#digests + 1], digests[#digests + 2] = A[key], A[key + 1]
	ages[#ages + 1], ages[#ages + 2] = A[8], A[key]
end
chunks('HSET', K[7], digests)
chunks('ZADD', K[8], ages)

local ordinal = tonumber(state[4] or 0)
local function write_letter(id, before, open, head, record, mark, several)
	if before ~= '' then
		call('ZREM', K[14], before)
		call('ZREM', K[15], before)
	end
	if open == '' then
		for sorted = 9, 11 do call('ZREM', K[sorted], id) end
		call('HDEL', K[12], id)
		call('HDEL', K[13], id)
		return
	end
	local given = call('ZSCORE', K[9], id)
	if not given then
		ordinal = ordinal + 1
		given = string.format('%.0f', ordinal)
		call('ZADD', K[9], given, id)
	end
	if open == '1' then
		call('ZADD', K[10], given, id)
		call('ZREM', K[11], id)
	else
		call('ZREM', K[10], id)
		call('ZADD', K[11], A[8], id)
	end
	call('HSET', K[12], id, mark .. '\n' .. head)
	call('HSET', K[13], id, record)
	if mark ~= '' then call('ZADD', K[several == '1' and 15 or 14], 0, mark) end
end
at = letters + 1
for _ = 1, A[letters] do
	write_letter(unpack(A, at, at + 6))
	at = at + (A[at + 2] == '' and 3 or 7)
end
for i = at + 1, at + 2 * A[at], 2 do
	local open = (call('HGET', K[17], A[i]) or 0) + A[i + 1]
	if open > 0 then
		call('HSET', K[17], A[i], string.format('%.0f', open))
	else
		call('HDEL', K[17], A[i])
	end
end

-- logs:written has every log that the commits behind one revision, up to another, have written to. If the last commit
-- is not the last one that it knows, it begins anew: it was made by a version that does not keep it.
local from, to = string.match(state[5] or '', '^(%d+) (%d+)$')
if to ~= A[2] then from = A[2] end
local over = call('ZCARD', K[16]) - tonumber(A[10])
if over > 0 then
	from = call('ZRANGE', K[16], over - 1, over - 1, 'WITHSCORES')[2]
	call('ZREMRANGEBYSCORE', K[16], '-inf', from)
end

for producer = producers + 1, logs - 1, 3 do
	call('HSET', K[2], A[producer], A[producer + 1] .. ' ' .. A[producer + 2])
	call('ZADD', K[3], A[producer + 1], A[producer])
end
call('HSET', K[1], 'revision', A[3], 'cursor', A[4], 'rejected', A[5], 'clock', A[8], 'trouble', A[11], 'ordinal', string.format('%.0f', ordinal),
	'written', from .. ' ' .. A[3], 'set_aside', string.format('%.0f', (state[6] or 0) + A[9]))
call('PUBLISH', A[6], A[7])
return 'ok'
