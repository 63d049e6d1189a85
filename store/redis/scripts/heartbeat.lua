#!lua flags=allow-oom
-- Records that an owner is alive, extends its claims, and says who is alive and who holds what. A lease that ends further
-- away than it is long was made before the clock was set back, or by another server's clock: it is shortened.
-- KEYS: 1 owners, 2 deployment, 3 to n the states of all partitions.
-- ARGV: 1 owner, 2 lease in microseconds, 3 the deployment as it must be.
local deployment = redis.call('GET', KEYS[2])
if deployment ~= ARGV[3] then return {'deployment', deployment} end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local till = string.format('%.0f', now + ARGV[2])
local claims, ends, owners = {}, {}, {}
local function shortened(till, ttl) return string.format('%.0f', math.min(tonumber(till), now + tonumber(ttl))) end
for i = 3, #KEYS do
	local s = redis.call('HMGET', KEYS[i], 'owner', 'epoch', 'revision', 'until', 'ttl')
	if s[1] and s[1] ~= '' then
		local believed = shortened(s[4], s[5])
		if s[1] == ARGV[1] then believed, s[5] = till, ARGV[2] end
		if believed ~= s[4] then ends[KEYS[i]] = {believed, s[5]} end
		if tonumber(believed) > now then claims[#claims + 1] = {tostring(i - 3), s[1], s[2], s[3]} end
	end
end
local known = redis.call('HGETALL', KEYS[1])
for i = 1, #known, 2 do
	local owner, ends_at, ttl = known[i], string.match(known[i + 1], '^(%d+) (%d+)$')
	if owner ~= ARGV[1] then
		if tonumber(ends_at) > now then
			owners[#owners + 1] = owner
			local believed = shortened(ends_at, ttl)
			if believed ~= ends_at then redis.call('HSET', KEYS[1], owner, believed .. ' ' .. ttl) end
		else
			redis.call('HDEL', KEYS[1], owner)
		end
	end
end
owners[#owners + 1] = ARGV[1]
redis.call('HSET', KEYS[1], ARGV[1], till .. ' ' .. ARGV[2])
for key, lease in pairs(ends) do redis.call('HSET', key, 'until', lease[1], 'ttl', lease[2]) end
return {'ok', owners, claims}
