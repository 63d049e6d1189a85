#!lua flags=allow-oom
-- Takes a partition.
-- KEYS: 1 deployment, 2 state, 3 producers, 4 letters:open.
-- ARGV: 1 the deployment as it must be, 2 owner, 3 epoch, 4 lease in microseconds, 5 channel, 6 partition.
local deployment = redis.call('GET', KEYS[1])
if deployment ~= ARGV[1] then return {'deployment', deployment} end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local state = redis.call('HMGET', KEYS[2], 'owner', 'until')
local owner, till = state[1], tonumber(state[2] or 0)
if owner and owner ~= '' and owner ~= ARGV[2] and till > now then return {'held'} end
redis.call('HLEN', KEYS[3]) -- fails here, before anything is written, if it is something else
local letters = redis.call('ZCARD', KEYS[4])
redis.call('HSETNX', KEYS[2], 'revision', '0')
redis.call('HSETNX', KEYS[2], 'set_aside', tostring(letters)) -- older versions did not count them
redis.call('HSET', KEYS[2], 'owner', ARGV[2], 'epoch', ARGV[3], 'until', string.format('%.0f', now + ARGV[4]), 'ttl', ARGV[4])
redis.call('PUBLISH', ARGV[5], ARGV[6])
return {'ok', redis.call('HMGET', KEYS[2], 'epoch', 'revision', 'cursor', 'rejected', 'set_aside', 'clock', 'trouble'), redis.call('HGETALL', KEYS[3])}
