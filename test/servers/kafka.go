package servers

import (
	"context"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// kafkaVersion is the one that scripts/kafka/pom.xml has fetched.
const kafkaVersion = "4.4.0"

// Kafka is one node of Apache Kafka, which is broker and controller (KRaft).
type Kafka struct {
	*Process
	Port     int    // without encryption and login
	SASLPort int    // with a login and without encryption, 0 without KafkaOptions.CA
	TLSPort  int    // with TLS and a client's certificate, 0 without KafkaOptions.CA
	BothPort int    // with TLS and a login by SCRAM, 0 without KafkaOptions.CA
	StoreDir string // everything that it keeps

	controllerPort int
}

// KafkaOptions are for tests that need something special. The zero value is a node as it comes, but for one thing: it
// knows within three seconds that a node has died.
type KafkaOptions struct {
	Settings []string // further lines of server.properties
	// CA, Certificate and Key are the paths of PEM files. With them it also listens with TLS, and wants certificates of
	// clients, and with a login: PLAIN and SCRAM as KafkaUser with KafkaPassword, and OAUTHBEARER with any unsigned token.
	// By PLAIN the users of deploy/permissions log in too, who may do nothing until Permit. All others may do everything.
	CA, Certificate, Key string
	Dir                  string // of its files, empty for one that ends with the test
	// Through puts something before a listener, for each of these: it gets the listener's address and returns the port of
	// what leads there. Kafka tells who connects there to come back there, and where the other nodes have the same.
	Through []func(address string) (port int)
}

// Who may log in to a Kafka with KafkaOptions.CA.
const (
	KafkaUser     = "guestbook"
	KafkaPassword = "s3cret-of-the-broker"
)

// StartKafka starts a node that ends with the test.
func StartKafka(t T, o KafkaOptions) *Kafka {
	t.Helper()
	return StartKafkaCluster(t, o)[0]
}

// StartKafkaCluster starts the nodes of one cluster, at the same time, that end with the test: one for each of the options.
func StartKafkaCluster(t T, options ...KafkaOptions) KafkaCluster {
	t.Helper()
	var nodes KafkaCluster
	var voters []string
	for id := range options {
		n := &Kafka{Process: newProcess(t, fmt.Sprintf("kafka %d", id), program(t, "java", "openjdk-17-jre-headless"))}
		n.Port, n.controllerPort = Port(t), Port(t)
		voters = append(voters, fmt.Sprintf("%d@%s:%d", id, Host, n.controllerPort))
		nodes = append(nodes, n)
	}
	var starting sync.WaitGroup
	for id, n := range nodes {
		n.setUp(id, voters, options[id])
		starting.Go(n.format)
	}
	starting.Wait()
	restart := nodes[0].shareClasses()
	for _, n := range nodes {
		n.Launch()
	}
	for _, n := range nodes {
		n.Await()
	}
	restart()
	return nodes
}

// setUp writes the settings.
func (n *Kafka) setUp(id int, voters []string, o KafkaOptions) {
	n.t.Helper()
	n.dir = directory(n.t, o.Dir)
	n.StoreDir = filepath.Join(n.dir, "data")
	listeners := []string{fmt.Sprintf("PLAINTEXT://%s:%d", Host, n.Port)}
	lines := []string{
		"process.roles=broker,controller", fmt.Sprintf("node.id=%d", id), "controller.quorum.voters=" + strings.Join(voters, ","),
		"controller.listener.names=CONTROLLER", "log.dirs=" + filepath.Base(n.StoreDir), // a comma in a path would be two of them
		// A node that was killed is let in again when its session has ended.
		"broker.session.timeout.ms=3000", "broker.heartbeat.interval.ms=200",
		// It is small, and need not wait for others before it does anything.
		"num.network.threads=1", "num.io.threads=2", "num.replica.fetchers=1", "background.threads=1",
		"offsets.topic.num.partitions=1", fmt.Sprintf("offsets.topic.replication.factor=%d", min(3, len(voters))), "group.initial.rebalance.delay.ms=0",
		"log.cleaner.dedupe.buffer.size=1100000",
	}
	if o.CA != "" {
		n.SASLPort, n.TLSPort, n.BothPort = Port(n.t), Port(n.t), Port(n.t)
		listeners = append(listeners, fmt.Sprintf("LOGIN://%s:%d", Host, n.SASLPort), fmt.Sprintf("TLS://%s:%d", Host, n.TLSPort),
			fmt.Sprintf("BOTH://%s:%d", Host, n.BothPort))
		lines = append(lines, n.secure(o)...)
	}
	advertised, protocols := slices.Clone(listeners), "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_PLAINTEXT,TLS:SSL,BOTH:SASL_SSL"
	for i, through := range o.Through {
		address := fmt.Sprintf("%s:%d", Host, Port(n.t))
		listeners = append(listeners, fmt.Sprintf("DOOR%d://%s", i, address))
		advertised = append(advertised, fmt.Sprintf("DOOR%d://%s:%d", i, Host, through(address)))
		protocols += fmt.Sprintf(",DOOR%d:PLAINTEXT", i)
	}
	lines = append(lines, "advertised.listeners="+strings.Join(advertised, ","), "listener.security.protocol.map="+protocols,
		"listeners="+strings.Join(append(listeners, fmt.Sprintf("CONTROLLER://%s:%d", Host, n.controllerPort)), ","))
	write(n.t, n.settings(), strings.Join(append(lines, o.Settings...), "\n")+"\n")
	n.args = n.java("kafka.Kafka", n.settings())
	n.ready = n.answers
}

// secure returns the settings of the listeners with TLS and with a login.
func (n *Kafka) secure(o KafkaOptions) []string {
	n.t.Helper()
	var both []byte
	for _, path := range []string{o.Key, o.Certificate} {
		text, err := os.ReadFile(path)
		if err != nil {
			n.t.Fatalf("reading a certificate: %v", err)
		}
		both = append(both, text...)
	}
	store := filepath.Join(n.dir, "server.pem")
	write(n.t, store, string(both))
	const security = "org.apache.kafka.common.security."
	return []string{
		"ssl.keystore.type=PEM", "ssl.keystore.location=" + store, "ssl.truststore.type=PEM", "ssl.truststore.location=" + o.CA,
		"listener.name.tls.ssl.client.auth=required",
		"sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
		fmt.Sprintf("listener.name.login.plain.sasl.jaas.config=%splain.PlainLoginModule required user_%s=%q user_%s=%q user_%s=%q;", security,
			KafkaUser, KafkaPassword, BackendUser, RolePassword, ConsumerUser, RolePassword),
		"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users=User:ANONYMOUS;User:CN=client;User:" + KafkaUser,
		"listener.name.login.scram-sha-256.sasl.jaas.config=" + security + "scram.ScramLoginModule required;",
		"listener.name.login.scram-sha-512.sasl.jaas.config=" + security + "scram.ScramLoginModule required;",
		"listener.name.both.sasl.enabled.mechanisms=SCRAM-SHA-512",
		"listener.name.both.scram-sha-512.sasl.jaas.config=" + security + "scram.ScramLoginModule required;",
		"listener.name.login.oauthbearer.sasl.jaas.config=" + security + "oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"kafka\";",
		"listener.name.login.oauthbearer.sasl.server.callback.handler.class=" + security +
			"oauthbearer.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler",
	}
}

func (n *Kafka) settings() string { return filepath.Join(n.dir, "server.properties") }

// jars returns the folder with Kafka's jars.
func (n *Kafka) jars() string {
	n.t.Helper()
	return jarsIn(n.t, "kafka-"+kafkaVersion, "kafka_2.13-"+kafkaVersion+".jar")
}

// classes returns the path of an archive with Kafka's classes as this very Java has them in memory (class data sharing).
func (n *Kafka) classes() string {
	n.t.Helper()
	path, err := filepath.EvalSymlinks(n.program)
	var java os.FileInfo
	if err == nil {
		java, err = os.Stat(path)
	}
	if err != nil {
		n.t.Fatalf("looking for Java: %v", err)
	}
	return filepath.Join(n.jars(), fmt.Sprintf("classes-%08x.jsa", crc32.ChecksumIEEE(fmt.Append(nil, path, java.ModTime().Unix()))))
}

// shareClasses has a node that is about to be started make that archive as it ends, if there is none, and then runs it
// without that: with the archive a node takes half the time to start.
func (n *Kafka) shareClasses() (restart func()) {
	n.t.Helper()
	if _, err := os.Stat(n.classes()); err == nil {
		return func() {}
	}
	n.args = append([]string{"-XX:ArchiveClassesAtExit=" + n.classes()}, n.args...)
	return func() {
		n.t.Helper()
		n.Stop()
		n.args = n.java("kafka.Kafka", n.settings())
		n.Start()
	}
}

// java returns the arguments with which Java runs one of Kafka's programs.
func (n *Kafka) java(program string, args ...string) []string {
	n.t.Helper()
	options := javaOptions(n.jars())
	if _, err := os.Stat(n.classes()); err == nil {
		options = append(options, "-XX:SharedArchiveFile="+n.classes())
	}
	return append(append(options, program), args...)
}

// format makes the directory of what it stores, as every KRaft node needs it before its first start.
func (n *Kafka) format() {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	args := []string{"format", "--cluster-id", "ZHJhaW5tYXJrLXRlc3RzCg", "--config", n.settings()}
	for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
		args = append(args, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, KafkaUser, KafkaPassword))
	}
	command := exec.CommandContext(ctx, n.program, n.java("kafka.tools.StorageTool", args...)...)
	command.Dir = n.dir
	if out, err := command.CombinedOutput(); err != nil {
		n.t.Errorf("formatting Kafka's storage: %v: %s", err, out)
	}
}

// Address is where clients connect to without encryption and login.
func (n *Kafka) Address() string { return fmt.Sprintf("%s:%d", Host, n.Port) }

// answers says whether the node tells of a cluster that it is a member of. One that was killed is let in again when its
// session from before has ended.
func (n *Kafka) answers(ctx context.Context) error {
	response, err := n.ask(ctx, kmsg.NewPtrMetadataRequest())
	if err != nil {
		return err
	}
	for _, b := range response.(*kmsg.MetadataResponse).Brokers {
		if int(b.Port) == n.Port {
			return nil
		}
	}
	return errNotYet
}
