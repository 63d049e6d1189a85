#!lua flags=no-writes
-- Lists the logs behind a name, so many of each partition.
-- KEYS: for each partition its names and its logs. ARGV: 1 the name, 2 how many.
local found = {}
for i = 1, #KEYS, 2 do
	local names = redis.call('ZRANGE', KEYS[i], '(' .. ARGV[1], '+', 'BYLEX', 'LIMIT', 0, ARGV[2])
	for j = 1, #names, 500 do
		local infos = redis.call('HMGET', KEYS[i + 1], unpack(names, j, math.min(j + 499, #names)))
		for k, info in ipairs(infos) do
			found[#found + 1] = names[j + k - 1]
			found[#found + 1] = info
		end
	end
end
return found
