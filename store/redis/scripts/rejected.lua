#!lua flags=no-writes
-- Finds for each run up to so many dead letters that share a mark with it: the id and the head of each.
-- KEYS: 1 letters:marks, 2 letters:spans, 3 letters:heads.
-- ARGV: 1 how many of each run, then producer, first and last (20 digits) of each run.
--
-- Members are "<producer>-<last>-<first>-<id>". Letters of one mark stand next to each other in the order of their marks,
-- from the run's first mark to its last. Letters of several marks may overlap, so each of them that ends behind the
-- run's first mark is looked at.
local STEP = 64
local found, most, count = {}, tonumber(ARGV[1]), 0
local function collect(key, producer, first, last, single)
	local from, to = '[' .. producer .. '-' .. first, '[' .. producer .. '-~'
	if single then to = '[' .. producer .. '-' .. last .. '-~' end
	while count < most do
		local members = redis.call('ZRANGE', key, from, to, 'BYLEX', 'LIMIT', 0, STEP)
		for _, member in ipairs(members) do
			if count < most and string.sub(member, 55, 74) <= last then
				local id = string.sub(member, 76)
				found[#found + 1] = id
				found[#found + 1] = redis.call('HGET', KEYS[3], id)
				count = count + 1
			end
		end
		if #members < STEP then return end
		from = '(' .. members[#members]
	end
end
for i = 2, #ARGV, 3 do
	count = 0
	collect(KEYS[1], ARGV[i], ARGV[i + 1], ARGV[i + 2], true)
	collect(KEYS[2], ARGV[i], ARGV[i + 1], ARGV[i + 2], false)
end
return found
