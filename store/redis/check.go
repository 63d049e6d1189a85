package redis

import (
	"context"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/drainmark/drainmark/store"
)

// checkServer says what about a server will not do, as an error, and what could be better, as warnings.
func checkServer(ctx context.Context, c conn, replicated bool) (warnings []string, err error) {
	info, err := c.Info(ctx).Result()
	err = fromServer(err)
	switch {
	case codeOf(err) == "NOPERM":
		warnings = append(warnings, "the user may not run INFO: the server's version, mode and eviction policy could not be checked")
	case err != nil:
		return nil, err
	default:
		if err := checkInfo(parseInfo(info), replicated); err != nil {
			return nil, err
		}
	}
	config := goredis.NewMapStringStringCmd(ctx, "CONFIG", "GET", "appendonly", "appendfsync", "min-replicas-to-write")
	err = fromServer(c.Process(ctx, config))
	switch {
	case codeOf(err) == "NOPERM" || codeOf(err) == "ERR":
		return append(warnings, "the user may not run CONFIG GET: appendonly, appendfsync and min-replicas-to-write could not be checked"), nil
	case err != nil:
		return nil, err
	}
	return append(warnings, configWarnings(config.Val(), replicated)...), nil
}

// parseInfo reads the lines "name:value" of INFO.
func parseInfo(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.SplitSeq(text, "\r\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			info[name] = value
		}
	}
	return info
}

// checkInfo checks what cannot work. Valkey calls itself Redis 7.2.4 for those who ask.
func checkInfo(info map[string]string, replicated bool) error {
	version := info["redis_version"]
	major, _, _ := strings.Cut(version, ".")
	if n, err := strconv.Atoi(major); err != nil || n < 7 {
		return store.Misconfigured("the server is Redis %s; it must be Redis 7.0 or later, or Valkey", version)
	}
	if info["redis_mode"] == "cluster" || info["server_mode"] == "cluster" { // the second is Valkey's
		return store.Misconfigured("the server runs in cluster mode, which is not supported: use one server, or replicas and " +
			"Sentinels")
	}
	if info["role"] == "slave" && !replicated { // Sentinels may just have made it one
		return store.Misconfigured("the server is a replica, which cannot be written to: the URL must be the master's, or one " +
			"with Sentinels")
	}
	if policy := info["maxmemory_policy"]; info["maxmemory"] != "0" && info["maxmemory"] != "" && policy != "noeviction" {
		return store.Misconfigured("maxmemory-policy is %s: the server would delete persisted messages when its memory is full; "+
			"set it to noeviction", policy)
	}
	return nil
}

func configWarnings(config map[string]string, replicated bool) (warnings []string) {
	if config["appendonly"] != "yes" {
		warnings = append(warnings, "appendonly is off: a restart of the server loses commits")
	} else if fsync := config["appendfsync"]; fsync != "always" {
		warnings = append(warnings, "appendfsync is "+fsync+" and not always: a crash of the server's machine loses the last commits")
	}
	if replicated && config["min-replicas-to-write"] == "0" {
		warnings = append(warnings, "min-replicas-to-write is 0: a master that is cut off goes on taking commits, which are lost when it comes back")
	}
	return warnings
}
