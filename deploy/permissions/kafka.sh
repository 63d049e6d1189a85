#!/bin/sh
# What Drainmark's roles may do on Kafka. It needs kafka-acls.sh of Kafka in PATH, and somebody who may alter ACLs:
#
#   BOOTSTRAP=broker-0:9092 ADMIN=admin.properties sh kafka.sh
#
# ADMIN is a file with that login (--command-config), if one is needed. The brokers need an authorizer, such as
# authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer: without one everybody may do everything.
#
# With another prefix in the URL than drainmark, write that for drainmark in the names of topics and of the group.
set -eu
: "${BOOTSTRAP:?it must be HOST:PORT of a broker}"

may() { # USER KIND NAME OPERATION...
	user=$1 kind=$2 name=$3
	shift 3
	for operation in "$@"; do
		kafka-acls.sh --bootstrap-server "$BOOTSTRAP" ${ADMIN:+--command-config "$ADMIN"} --add \
			--allow-principal "User:$user" "--$kind" "$name" --operation "$operation"
	done
}

# Whoever comes first makes a topic, and everybody looks whether its settings keep what was accepted.
may drainmark-backend topic drainmark Create DescribeConfigs Write                   # appends
may drainmark-backend topic drainmark-flag Create DescribeConfigs Read Write         # whether something may not be persisted
may drainmark-backend topic drainmark-deployment Create DescribeConfigs Read Write   # the record of the deployment

may drainmark-consumer topic drainmark Create DescribeConfigs Read Delete            # what is to be persisted, and purging it
may drainmark-consumer topic drainmark-deployment Create DescribeConfigs Read Write  # the record of the deployment
may drainmark-consumer group drainmark Read                                          # how far it is, for people's tools
