#!lua flags=no-writes
-- Finds for each run a dead letter that shares a mark with it: the id and the head, or two nothings.
-- KEYS: 1 letters:marks, 2 letters:spans, 3 letters:heads.
-- ARGV: producer, first and last (20 digits) of each run.
--
-- Members are "<producer>-<last>-<first>-<id>". A letter of one mark is in the run if the first one behind the run's
-- first mark is not behind its last. Letters of several marks may overlap, so each of them that ends behind the run's
-- first mark is looked at.
local function overlapping(key, producer, first, last, step)
	local from, to = '[' .. producer .. '-' .. first, '[' .. producer .. '-~'
	while true do
		local members = redis.call('ZRANGE', key, from, to, 'BYLEX', 'LIMIT', 0, step)
		for _, member in ipairs(members) do
			if string.sub(member, 55, 74) <= last then return string.sub(member, 76) end
			if step == 1 then return nil end
		end
		if #members < step then return nil end
		from = '(' .. members[#members]
	end
end
local found = {}
for i = 1, #ARGV, 3 do
	local id = overlapping(KEYS[1], ARGV[i], ARGV[i + 1], ARGV[i + 2], 1)
		or overlapping(KEYS[2], ARGV[i], ARGV[i + 1], ARGV[i + 2], 64)
	found[#found + 1] = id or false
	found[#found + 1] = id and redis.call('HGET', KEYS[3], id) or false
end
return found
