// Package redis keeps a store in Redis 7.0 or later, or Valkey: one server, or a master with replicas that Sentinels
// watch. Redis Cluster is not supported.
//
// # What makes a commit durable
//
// A commit is one script, which the server runs in one step and writes to its append-only file as one transaction. It
// is in force when Commit returns nil, and it is as durable as the server is set to be:
//
//   - appendonly yes and appendfsync always: it is on the master's disk. With appendfsync everysec, a crash of the
//     machine loses up to about two seconds of commits. A crash of the server alone loses none.
//   - Replication is asynchronous: a failover loses what the new master had not received. With Options.WaitReplicas a
//     commit counts when so many replicas have it in their memory. Even then the Sentinels can choose a replica that
//     does not have it, if there are more replicas than that.
//   - min-replicas-to-write 1 makes a master stop that is cut off from its replicas.
//
// A master that comes back without its last commits has a lower revision. The next commit is then fenced, the consumer
// takes the partition up again from what is there, and a broker that keeps its log supplies the rest anew.
//
// maxmemory-policy must be noeviction. When memory is full, commits are refused before they change anything.
//
// # URLs
//
//	redis://[user:password@]host[:port][/database]
//	redis+sentinel://[user:password@]host[:port][,host[:port]…]/master's name[/database]
//
// and with TLS rediss:// and rediss+sentinel://. User and password are those of the data servers. The parameters
// sentinel-user and sentinel-password are those of the Sentinels. For TLS there are the parameters ca, cert and key
// (paths of files in PEM format: who is trusted, and who we are) and servername. The certificate is always verified.
// Special characters in users and passwords are written as %40 and the like.
//
// # Keys
//
// All keys of partition N begin with drainmark:{pN}: and so would be in one slot of a cluster. drainmark is an option,
// the prefix. Everything but a body is text. Times are microseconds since the Unix epoch. "clock" is the partition's
// own time, also in microseconds. Tokens are random numbers.
//
//	drainmark:{all}:deployment      string      "<id> <number of partitions> <version of this format>"
//	drainmark:{all}:owners          hash        owner: "<until when it is known to be alive> <length of that lease>"
//	state                           hash        owner, lease token, until, ttl: the claim; revision, cursor, rejected,
//	                                            set_aside, clock, trouble: the progress; ordinal: the last one given to a dead
//	                                            letter; written: behind and up to which revision logs:written is complete
//	producers                       hash        producer: "<clock of its last record> <what is done, as in 1-500,502-900>"
//	producers:ages                  sorted set  producer, by the clock of its last record
//	logs                            hash        log: "<last position> <cleared through> 0", and of one with erasures, or that is
//	                                            deleted, "… <how many erasures> <1 if it is deleted>"
//	logs:names                      sorted set  log, in order of names
//	logs:cleared                    set         logs with cleared messages that are to be deleted
//	logs:written                    sorted set  log, by the revision of the last commit that wrote to it; the newest only
//	log:<log>                       stream      entry <position>-0, of one field m: "<sequence> <accepted at>
//	                                            <persisted at, less that> <producer> <length of type> <type>\n<body>", and
//	                                            with headers "… <length of type>+<length of headers> <type><headers>\n<body>"
//	aside:<log>                     sorted set  "<position> <message as in the stream>", by position: of erased messages, with
//	                                            "erased\n" behind the producer, and of their neighbours in the stream
//	keys                            hash        "<log>/<idempotency key>": half of the SHA-256 of content type, body and headers
//	keys:ages                       sorted set  "<log>/<idempotency key>", by the clock when it was first committed
//	letters                         sorted set  dead letter's id, by ordinal
//	letters:open                    sorted set  id, by ordinal, of those not discarded
//	letters:discarded               sorted set  id, by the clock when it was set aside
//	letters:heads                   hash        id: "<member of marks or spans>\n<partition> <producer> <first> <last>
//	                                            <set aside at> <attempts> <discarded> 0 <log> <reason> <principal>"
//	letters:records                 hash        id: "p <accepted at>\n<payload>"
//	letters:principals              hash        principal: how many letters in letters:open are of it
//	letters:marks, letters:spans    sorted set  "<producer>-<last>-<first>-<id>": letters of one mark, and of several
//
// Every commit, claim and release is announced on the channel drainmark:changes.
//
// A message can be seen with redis-cli:
//
//	XRANGE drainmark:{p0}:log:guestbook 17-0 17-0
//
// The sorted sets hold numbers with 53 bits, so times are exact until the year 2255.
//
// What the users of a Store, of a Reader and of the Sentinels may do is in deploy/permissions. INFO and CONFIG GET only
// check the server's settings: a server that denies them gives a warning.
package redis
