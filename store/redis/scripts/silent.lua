#!lua flags=allow-oom
-- Returns the producers that have been silent for longer than an age, by the partition's clock. It writes nothing, but a
-- replica must not answer for the master.
-- KEYS: 1 producers:ages, 2 state. ARGV: 1 the age in microseconds, 2 how many at most.
local clock = tonumber(redis.call('HGET', KEYS[2], 'clock') or 0)
local before = string.format('%.0f', math.max(clock - ARGV[1], 0))
return redis.call('ZRANGE', KEYS[1], '-inf', '(' .. before, 'BYSCORE', 'LIMIT', 0, tonumber(ARGV[2]))
