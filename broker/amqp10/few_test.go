//go:build !amqp10

package amqp10

// allServers says whether the whole suite runs on all servers. The default run of the tests has it on Artemis alone, and what
// is RabbitMQ's own: make amqp10 has all.
const allServers = false
