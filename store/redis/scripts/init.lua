#!lua
-- Records the deployment unless there is one, and returns the recorded one.
-- KEYS: 1 deployment. ARGV: 1 the wanted one.
redis.call('SETNX', KEYS[1], ARGV[1])
return redis.call('GET', KEYS[1])
