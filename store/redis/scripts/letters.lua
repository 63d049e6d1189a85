#!lua flags=no-writes
-- Lists the open dead letters behind an ordinal, until their records exceed a size.
-- KEYS: 1 letters:open, 2 letters:heads, 3 letters:records. ARGV: 1 the ordinal, 2 how many, 3 size in bytes.
local found, size, after, left = {}, 0, ARGV[1], tonumber(ARGV[2])
while left > 0 do
	local ids = redis.call('ZRANGE', KEYS[1], '(' .. after, '+inf', 'BYSCORE', 'LIMIT', 0, math.min(left, 64), 'WITHSCORES')
	if #ids == 0 then return found end
	for i = 1, #ids, 2 do
		local id = ids[i]
		local record = redis.call('HGET', KEYS[3], id)
		found[#found + 1] = {ids[i + 1], id, redis.call('HGET', KEYS[2], id), record}
		size = size + #record
		if size >= tonumber(ARGV[3]) then return found end
	end
	after, left = ids[#ids], left - #ids / 2
end
return found
