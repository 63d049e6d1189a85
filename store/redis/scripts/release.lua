#!lua flags=allow-oom
-- Gives up an owner's claims. Without owners it is the claim of one partition.
-- KEYS: 1 owners, 2 to n states. ARGV: 1 owner, 2 channel, 3 'leave' or 'release'.
local mine = {}
for i = 2, #KEYS do
	if redis.call('HGET', KEYS[i], 'owner') == ARGV[1] then mine[#mine + 1] = KEYS[i] end
end
if ARGV[3] == 'leave' then redis.call('HDEL', KEYS[1], ARGV[1]) end
for _, key in ipairs(mine) do redis.call('HSET', key, 'owner', '') end
if #mine > 0 then redis.call('PUBLISH', ARGV[2], 'claims') end
return #mine
