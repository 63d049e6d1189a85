#!lua flags=allow-oom
-- Returns a dead letter's head and record. It writes nothing, but a replica must not answer for the master.
-- KEYS: 1 letters:heads, 2 letters:records. ARGV: 1 id.
return {redis.call('HGET', KEYS[1], ARGV[1]), redis.call('HGET', KEYS[2], ARGV[1])}
