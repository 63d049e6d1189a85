#!lua flags=allow-oom
-- Returns what a commit is planned from: epoch and revision, what is recorded of logs, the digests of keys, and heads and
-- records of dead letters. It writes nothing, but a replica must not answer for the master.
-- KEYS: 1 state, 2 logs, 3 keys, 4 letters:heads, 5 letters:records.
-- ARGV: each behind how many there are: names of logs, keys, ids of letters.
local at = 1
local function read(hash)
	local found, first = {}, at + 1
	local last = at + ARGV[at]
	for from = first, last, 500 do
		local to = math.min(from + 499, last)
		for i, value in ipairs(redis.call('HMGET', hash, unpack(ARGV, from, to))) do
			found[from - first + i] = value
		end
	end
	return found, last + 1
end
local version = redis.call('HMGET', KEYS[1], 'epoch', 'revision')
local logs, keys, heads, records
logs, at = read(KEYS[2])
keys, at = read(KEYS[3])
heads = read(KEYS[4])
records = read(KEYS[5])
return {version, logs, keys, heads, records}
