#!lua flags=allow-oom
-- Deletes a step's worth of each kind of thing that nobody can see any more. Returns 1 if there is more.
-- KEYS: 1 producers, 2 producers:ages, 3 logs, 4 cleared, 5 keys, 6 keys:ages, 7 letters, 8 letters:discarded,
--       9 letters:heads, 10 letters:records, 11 letters:marks, 12 letters:spans, 13 state.
-- ARGV: 1 what the names of the logs' streams begin with, 2 what those of messages beside the streams begin with, 3 how many of
--       each kind, 4 the age of keys that can go, 5 that of producers, in microseconds; 0 keeps all; 6... the producers that can
--       go, if they are as old.
local call, step, more = redis.call, tonumber(ARGV[3]), 0
local clock = tonumber(call('HGET', KEYS[13], 'clock') or 0)
-- What is from before these times, by the partition's clock, can go.
local function before(age) return tonumber(age) > 0 and string.format('%.0f', math.max(clock - age, 0)) or '0' end
local keys_before, producers_before = before(ARGV[4]), before(ARGV[5])

local name = call('SRANDMEMBER', KEYS[4])
if name then
	local stream, aside = ARGV[1] .. name, ARGV[2] .. name
	local info = call('HGET', KEYS[3], name) or '0 0' -- somebody may have removed it
	local cleared = tonumber(string.match(info, '^%d+ (%d+)'))
	local first = call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
	local position = first and tonumber(string.match(first[1], '^%d+')) or cleared + 1
	position = math.min(position, tonumber(call('ZRANGE', aside, 0, 0, 'WITHSCORES')[2] or position))
	local through = math.min(position - 1 + step, cleared)
	call('ZREMRANGEBYSCORE', aside, '-inf', string.format('%.0f', through))
	call('XTRIM', stream, 'MINID', '=', string.format('%.0f-0', through + 1))
	if through >= cleared then call('SREM', KEYS[4], name) end
	more = call('SCARD', KEYS[4])
end

-- old returns a step's worth of the members of a sorted set with scores below a time.
local function old(key, time)
	local members = call('ZRANGE', key, '-inf', '(' .. time, 'BYSCORE', 'LIMIT', 0, step)
	if #members == step then more = 1 end
	return members
end

local keys = old(KEYS[6], keys_before)
if #keys > 0 then
	call('ZREM', KEYS[6], unpack(keys))
	call('HDEL', KEYS[5], unpack(keys))
end

for i = 6, #ARGV do
	local last = call('ZSCORE', KEYS[2], ARGV[i])
	if last and tonumber(last) < tonumber(producers_before) then
		call('ZREM', KEYS[2], ARGV[i])
		call('HDEL', KEYS[1], ARGV[i])
	end
end

-- The letters of a producer that is in the progress stay. They are looked at again when it has been silent for as long,
-- or when the clock has moved.
for _, id in ipairs(old(KEYS[8], producers_before)) do
	local mark = string.match(call('HGET', KEYS[9], id) or '', '^[^\n]*')
	local progress = mark ~= '' and call('HGET', KEYS[1], string.sub(mark, 1, 32))
	local last = progress and string.match(progress, '^%S+')
	if last then
		call('ZADD', KEYS[8], string.format('%.0f', math.max(tonumber(last), tonumber(producers_before))), id)
	else
		for _, i in ipairs({7, 8, 11, 12}) do call('ZREM', KEYS[i], i < 11 and id or mark) end
		call('HDEL', KEYS[9], id)
		call('HDEL', KEYS[10], id)
	end
end
return math.min(more, 1)
