// Package permissions has what Drainmark's roles may do on brokers and stores, as files that who deploys applies. README.md
// says how. The store of PostgreSQL grants what postgres.sql says, and tests run with all of them.
package permissions

import "embed"

// Files are the files.
//
//go:embed activemq.xml artemis.xml kafka.sh nats.conf postgres.sql rabbitmq.json rabbitmq-amqp10.json redis.acl redis-sentinel.acl
var Files embed.FS
