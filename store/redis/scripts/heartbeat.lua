#!lua flags=allow-oom
-- Records that an owner is alive, extends its claims, and says who is alive and who holds what.
-- KEYS: 1 owners, 2 deployment, 3 to n the states of all partitions.
-- ARGV: 1 owner, 2 lease in microseconds, 3 the deployment as it must be.
local deployment = redis.call('GET', KEYS[2])
if deployment ~= ARGV[3] then return {'deployment', deployment} end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local till = string.format('%.0f', now + ARGV[2])
local claims, mine = {}, {}
for i = 3, #KEYS do
	local s = redis.call('HMGET', KEYS[i], 'owner', 'epoch', 'revision', 'until')
	if s[1] and s[1] ~= '' then
		if s[1] == ARGV[1] then
			mine[#mine + 1] = KEYS[i]
			s[4] = till
		end
		if tonumber(s[4]) > now then claims[#claims + 1] = {tostring(i - 3), s[1], s[2], s[3]} end
	end
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
redis.call('ZADD', KEYS[1], till, ARGV[1])
for _, key in ipairs(mine) do redis.call('HSET', key, 'until', till) end
return {'ok', redis.call('ZRANGE', KEYS[1], 0, -1), claims}
