#!lua
-- Applies a commit, all or nothing. What fails in a script is not rolled back, so everything that can fail is tried
-- before the first write: that each key is of its type, that the user may do everything, and that each operation can be
-- applied.
--
-- KEYS: 1 state, 2 producers, 3 producers:ages, 4 logs, 5 logs:names, 6 logs:cleared, 7 keys, 8 keys:ages, 9 letters,
--       10 letters:open, 11 letters:discarded, 12 letters:heads, 13 letters:records, 14 letters:marks,
--       15 letters:spans, 16 logs:written, then the streams of the logs that the commit writes to.
-- ARGV: 1 epoch, 2 revision, 3 next revision, 4 cursor, 5 rejected, 6 channel, 7 partition, 8 the partition's clock in
--       microseconds, 9 highest position, 10 how many logs logs:written names,
--       11 how many producers, then for each: producer, last time, progress;
--       then the names of the logs; then the operations. An operation begins with its kind:
--         a log index count, then count times: message          append messages without keys
--         k log index key digest message                        append one with a key
--         c log                                                 clear
--         s id open head record mark span                       set a dead letter aside
--         r id                                                  restore one
--       log counts the commit's logs from 1; index is the operation's in the commit.
-- Returns 'ok' and how many appends had a known key; 'fenced'; or 'refused' and index and reason of each at fault.
local call, K, A = redis.call, KEYS, ARGV
local CHUNK = 500 -- how many arguments are given to one command

local state = call('HMGET', K[1], 'owner', 'epoch', 'revision', 'ordinal', 'written', 'set_aside')
if not state[1] or state[1] == '' or state[2] ~= A[1] or state[3] ~= A[2] then return {'fenced'} end

local producers = tonumber(A[11])
local first_log = 12 + 3 * producers
local logs = #K - 16
local first_op = first_log + logs
local last, cleared, swept, new = {}, {}, {}, {}

local function read_logs()
	for from = 1, logs, CHUNK do
		local to = math.min(from + CHUNK - 1, logs)
		local found = call('HMGET', K[4], unpack(A, first_log + from - 1, first_log + to - 1))
		for i = from, to do
			local info = found[i - from + 1]
			if info then
				local l, c, s = string.match(info, '^(%d+) (%d+) (%d+)$')
				last[i], cleared[i], swept[i] = tonumber(l), tonumber(c), tonumber(s)
			else
				last[i], cleared[i], swept[i], new[i] = 0, 0, 0, true
			end
			-- A stream that has more than it should would not take what follows.
			local stream = K[16 + i]
			if #call('XREVRANGE', stream, '+', string.format('%.0f-1', last[i]), 'COUNT', 1) > 0 then
				error({err = 'WRONGTYPE ' .. stream .. ' has entries that Drainmark did not write'})
			end
		end
	end
end

-- known has for each key that the commit names the digest of its use, if it was used before.
local known = {}
local function read_keys(names)
	for from = 1, #names, CHUNK do
		local to = math.min(from + CHUNK - 1, #names)
		local digests = call('HMGET', K[7], unpack(names, from, to))
		for i = from, to do
			known[names[i]] = digests[i - from + 1] or nil
		end
	end
end

-- Plan: read what there is, and find out what must be refused and what is dropped.
read_logs()
local names, letters, i = {}, false, first_op
while i <= #A do
	local kind = A[i]
	if kind == 'a' then
		i = i + 4 + A[i + 3]
	elseif kind == 'k' then
		names[#names + 1] = A[i + 3]
		i = i + 6
	elseif kind == 'c' then
		i = i + 2
	else
		letters = true
		i = i + (kind == 's' and 7 or 2)
	end
end
read_keys(names)

local refused, dropped, duplicates = {'refused'}, {}, 0
local position, clock, maximum = {}, A[8], tonumber(A[9])
local new_digests, new_ages = {}, {}
local function refuse(index, reason)
	refused[#refused + 1] = tostring(index)
	refused[#refused + 1] = reason
end
local function append(log, index, count)
	local reached = (position[log] or last[log]) + count
	position[log] = reached
	for over = math.max(reached - count, maximum) + 1, reached do refuse(index + count - 1 - (reached - over), 'full') end
end
local function plan_key(at)
	local key, digest = A[at + 3], A[at + 4]
	local use = known[key]
	if use then
		if use ~= digest then return refuse(A[at + 2], 'key') end
		dropped[at], duplicates = true, duplicates + 1
		return
	end
	known[key] = digest
	new_digests[#new_digests + 1] = key
	new_digests[#new_digests + 1] = digest
	new_ages[#new_ages + 1] = clock
	new_ages[#new_ages + 1] = key
	append(tonumber(A[at + 1]), tonumber(A[at + 2]), 1)
end
i = first_op
while i <= #A do
	local kind = A[i]
	if kind == 'a' then
		append(tonumber(A[i + 1]), tonumber(A[i + 2]), tonumber(A[i + 3]))
		i = i + 4 + A[i + 3]
	elseif kind == 'k' then
		plan_key(i)
		i = i + 6
	else
		i = i + (kind == 's' and 7 or 2)
	end
end
if #refused > 1 then return refused end

-- The rest of the types.
call('HLEN', K[2])
call('ZCARD', K[3])
call('ZCARD', K[5])
call('SCARD', K[6])
call('ZCARD', K[16])
if letters then
	for _, at in ipairs({9, 10, 11, 14, 15}) do call('ZCARD', K[at]) end
	call('HLEN', K[12])
	call('HLEN', K[13])
end
-- And the permissions.
local commands = {{'XADD', K[1], '1-0', 'm', ''}, {'HSET', K[1], '', ''}, {'ZADD', K[1], '0', ''}, {'SADD', K[1], ''}, {'PUBLISH', A[6], ''},
	{'ZRANGE', K[1], '0', '0'}, {'ZREMRANGEBYSCORE', K[1], '0', '0'}}
if letters then
	for _, command in ipairs({{'HGET', K[1], ''}, {'ZSCORE', K[1], ''}, {'ZREM', K[1], ''}, {'HDEL', K[1], ''}}) do
		commands[#commands + 1] = command
	end
end
for _, command in ipairs(commands) do
	if not redis.acl_check_cmd(unpack(command)) then
		error({err = 'NOPERM this user has no permissions to run ' .. command[1]})
	end
end
-- From here on nothing fails.

local ordinal, aside = tonumber(state[4] or 0), tonumber(state[6] or 0)
-- records says how many records a letter stands for, by the mark that it is found by.
local function records(mark)
	if mark == '' then return 1 end
	return tonumber(string.sub(mark, 34, 53)) - tonumber(string.sub(mark, 55, 74)) + 1
end
local function unmark(id)
	local head = call('HGET', K[12], id)
	local mark = head and string.match(head, '^[^\n]*')
	if mark and call('ZSCORE', K[10], id) then aside = aside - records(mark) end
	if mark and mark ~= '' then
		call('ZREM', K[14], mark)
		call('ZREM', K[15], mark)
	end
end
local function set_aside(at)
	local id, mark = A[at + 1], A[at + 5]
	unmark(id)
	local given = call('ZSCORE', K[9], id)
	if not given then
		ordinal = ordinal + 1
		given = string.format('%.0f', ordinal)
		call('ZADD', K[9], given, id)
	end
	if A[at + 2] == '1' then
		aside = aside + records(mark)
		call('ZADD', K[10], given, id)
		call('ZREM', K[11], id)
	else
		call('ZREM', K[10], id)
		call('ZADD', K[11], clock, id)
	end
	call('HSET', K[12], id, mark .. '\n' .. A[at + 3])
	call('HSET', K[13], id, A[at + 4])
	if mark ~= '' then call('ZADD', K[A[at + 6] == '1' and 15 or 14], 0, mark) end
end
local function restore(id)
	unmark(id)
	for at = 9, 11 do call('ZREM', K[at], id) end
	call('HDEL', K[12], id)
	call('HDEL', K[13], id)
end

-- Apply.
i = first_op
while i <= #A do
	local kind = A[i]
	if kind == 'a' then
		local log, count = tonumber(A[i + 1]), tonumber(A[i + 3])
		local stream, at = K[16 + log], last[log]
		for message = i + 4, i + 3 + count do
			at = at + 1
			call('XADD', stream, at .. '-0', 'm', A[message])
		end
		last[log] = at
		i = i + 4 + count
	elseif kind == 'k' then
		if not dropped[i] then
			local log = tonumber(A[i + 1])
			last[log] = last[log] + 1
			call('XADD', K[16 + log], last[log] .. '-0', 'm', A[i + 5])
		end
		i = i + 6
	elseif kind == 'c' then
		local log = tonumber(A[i + 1])
		cleared[log] = last[log]
		i = i + 2
	elseif kind == 's' then
		set_aside(i)
		i = i + 7
	else
		restore(A[i + 1])
		i = i + 2
	end
end

local function chunks(command, key, arguments)
	for from = 1, #arguments, CHUNK do
		call(command, key, unpack(arguments, from, math.min(from + CHUNK - 1, #arguments)))
	end
end
chunks('HSET', K[7], new_digests)
chunks('ZADD', K[8], new_ages)

local infos, written = {}, {}
for log = 1, logs do
	local name = A[first_log + log - 1]
	infos[#infos + 1] = name
	written[#written + 1] = A[3]
	written[#written + 1] = name
	infos[#infos + 1] = string.format('%.0f %.0f %.0f', last[log], cleared[log], swept[log])
	if new[log] then call('ZADD', K[5], 0, name) end
	if cleared[log] > swept[log] then call('SADD', K[6], name) end
end
chunks('HSET', K[4], infos)
chunks('ZADD', K[16], written)

-- logs:written has every log that the commits behind one revision, up to another, have written to. If the last commit
-- is not the last one that it knows, it begins anew: it was made by a version that does not keep it.
local from, to = string.match(state[5] or '', '^(%d+) (%d+)$')
if to ~= A[2] then from = A[2] end
local over = call('ZCARD', K[16]) - tonumber(A[10])
if over > 0 then
	from = call('ZRANGE', K[16], over - 1, over - 1, 'WITHSCORES')[2]
	call('ZREMRANGEBYSCORE', K[16], '-inf', from)
end

for at = 12, first_log - 1, 3 do
	call('HSET', K[2], A[at], A[at + 1] .. ' ' .. A[at + 2])
	call('ZADD', K[3], A[at + 1], A[at])
end
call('HSET', K[1], 'revision', A[3], 'cursor', A[4], 'rejected', A[5], 'clock', clock, 'ordinal', string.format('%.0f', ordinal),
	'written', from .. ' ' .. A[3], 'set_aside', string.format('%.0f', aside))
call('PUBLISH', A[6], A[7])
return {'ok', tostring(duplicates)}
