package app

import (
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drainmark/drainmark/test/servers"
)

// refusing are servers that refuse clients with wrong settings.
type refusing struct {
	ca       string // who signed their certificates (they want one of clients too)
	rabbit   *servers.RabbitMQ
	redis    *servers.Redis
	redisTLS int // its port with TLS
	nats     natsRefusing
}

// natsRefusing are NATS servers that cannot be used, each in its way.
type natsRefusing struct {
	users, secure, bare *servers.NATS // with a login, with TLS, without JetStream
	monitoring          int           // the port of the first one's monitoring
}

func startNATSRefusing(t *testing.T, certificate, key string) (r natsRefusing) {
	r.monitoring = servers.Port(t)
	r.users = servers.StartNATS(t, servers.NATSOptions{Settings: []string{
		fmt.Sprintf("http: %q", fmt.Sprint(servers.Host, ":", r.monitoring)),
		`authorization { users: [{ user: guestbook, password: secret },
			{ user: nobody, password: secret, permissions: { publish: { deny: ">" }, subscribe: ["_INBOX.>"] } }] }`,
	}})
	r.secure = servers.StartNATS(t, servers.NATSOptions{Settings: []string{
		fmt.Sprintf("tls { cert_file: %q, key_file: %q }", certificate, key),
	}})
	r.bare = servers.StartNATS(t, servers.NATSOptions{NoJetStream: true})
	return r
}

// natsRefusals returns the cases of NATS.
func (r refusing) natsRefusals() map[string]refusal {
	at := func(scheme, user string, port int) string {
		return fmt.Sprintf("%s://%s%s:%d", scheme, user, servers.Host, port)
	}
	says := func(port int, why string) string {
		return fmt.Sprintf("opening the broker: connecting to NATS at %s:%d: the broker is not set up as Drainmark needs it: %s", servers.Host, port, why)
	}
	n, rabbit := r.nats, r.rabbit.Port
	const user, usePort = "guestbook:secret@", "use the port of NATS's clients, which is 4222 unless it was changed"
	return map[string]refusal{
		"nats, a wrong password": {broker: at("nats", "guestbook:guess@", n.users.Port), says: says(n.users.Port,
			"NATS refuses the login (nats: Authorization Violation): correct the user and password, token or credentials file")},
		"nats, who may do nothing": {broker: at("nats", nobody+":secret@", n.users.Port), says: "opening the broker: the broker is not set up " +
			"as Drainmark needs it: the NATS user may not publish to $JS.API.STREAM.INFO.drainmark-deployment: give it that permission"},
		"tls to a port without": {broker: at("tls", user, n.users.Port), says: says(n.users.Port,
			"this NATS does not offer TLS: use nats:// without ca, cert and key, or turn TLS on in the server")},
		"nats, an unknown authority": {broker: at("nats", "", n.secure.Port), says: says(n.secure.Port, "tls: failed to verify certificate: "+
			"x509: certificate signed by unknown authority: check ca, and the host's name in the URL")},
		"nats to the monitoring": {broker: at("nats", user, n.monitoring), says: says(n.monitoring,
			"this port speaks HTTP, as NATS's monitoring does: "+usePort)},
		"nats to a RabbitMQ": {broker: at("nats", user, rabbit), says: says(rabbit, "what answers on this port does not speak NATS's protocol: "+usePort)},
		"nats without JetStream": {broker: at("nats", "", n.bare.Port), says: "opening the broker: the broker is not set up as Drainmark needs it: " +
			"JetStream is not enabled in this NATS: enable it (jetstream {} in the server's settings), or use a server that has it. " +
			"A leaf node must be connected to the server that has it"},
	}
}

// nobody is a user who may do nothing, with the password "secret".
const nobody = "nobody"

func startRefusing(t *testing.T) refusing {
	t.Helper()
	authority := servers.NewAuthority(t)
	certificate, key := authority.Issue("server")
	rabbit := servers.StartRabbitMQ(t, servers.RabbitMQOptions{
		CA: authority.Path, Certificate: certificate, Key: key, Management: true,
	})
	rabbit.AddUser(nobody)
	rabbit.Permit(nobody, "^$", "^$", "^$")
	rabbit.Eval(`rabbit_vhost:add(<<"elsewhere">>, <<"test">>)`)
	port := servers.Port(t)
	redis := servers.StartRedis(t, servers.RedisOptions{Password: "secret", Settings: []string{
		fmt.Sprint("tls-port ", port), "tls-ca-cert-file " + authority.Path,
		"tls-cert-file " + certificate, "tls-key-file " + key,
		"user " + nobody + " on >secret ~* -@all", "user default on >secret ~* &* +@all",
	}})
	return refusing{authority.Path, rabbit, redis, port, startNATSRefusing(t, certificate, key)}
}

// amqp returns a URL with the right user and password.
func (r refusing) amqp(scheme string, port int, rest string) string {
	u := url.URL{Scheme: scheme, User: url.UserPassword(r.rabbit.User, r.rabbit.Password)}
	return fmt.Sprintf("%s%s:%d/%s", u.String(), servers.Host, port, rest)
}

// refusal is what a consumer is started with, and the last that it says. Settings that are not given are right.
type refusal struct{ broker, store, says string }

// brokerRefusals returns the cases of RabbitMQ.
func (r refusing) brokerRefusals() map[string]refusal {
	plain, secure, web, redis := r.rabbit.Port, r.rabbit.TLSPort, r.rabbit.HTTPPort, r.redis.Port
	as := func(user, rest string) string {
		return fmt.Sprintf("amqp://%s@%s:%d/%s", user, servers.Host, plain, rest)
	}
	says := func(port int, why string) string {
		return fmt.Sprintf("opening the broker: recording the deployment: connecting to RabbitMQ at %s:%d: "+
			"the broker is not set up as Drainmark needs it: %s", servers.Host, port, why)
	}
	const login = "RabbitMQ refuses us: check user and password"
	access := "access"
	if major, _ := r.rabbit.Version(); major >= 4 {
		access = "configure access"
	}
	const noTLS = "this port does not speak TLS: use amqp:// or another port"
	return map[string]refusal{
		"amqp to a port with TLS": {broker: r.amqp("amqp", secure, ""), says: says(secure, "this port speaks TLS: use amqps://")},
		"amqps to a port without": {broker: r.amqp("amqps", plain, ""), says: says(plain, noTLS)},
		"amqps to the management": {broker: r.amqp("amqps", web, ""), says: says(web, noTLS)},
		"amqp to the management": {broker: r.amqp("amqp", web, ""), says: says(web,
			"this port speaks HTTP, as RabbitMQ's management does: use the port of AMQP, which is 5672 unless it was changed")},
		"amqp to a Redis": {broker: r.amqp("amqp", redis, ""), says: says(redis,
			"what answers on this port does not speak AMQP: use the port of AMQP, which is 5672 unless it was changed")},
		"a wrong vhost": {broker: r.amqp("amqp", plain, "nowhere"), says: says(plain,
			"RabbitMQ refuses us: NOT_ALLOWED - vhost nowhere not found: check user, password, vhost and permissions")},
		"a vhost of others": {broker: as(nobody+":secret", "elsewhere"), says: says(plain, "RabbitMQ refuses us: NOT_ALLOWED - "+
			"access to vhost 'elsewhere' refused for user 'nobody': check user, password, vhost and permissions")},
		"a wrong password": {broker: as(r.rabbit.User+":guess", ""), says: says(plain, login)},
		"a wrong user":     {broker: as("anybody:guess", ""), says: says(plain, login)},
		"a user who may do nothing": {broker: as(nobody+":secret", ""), says: "opening the broker: recording the deployment: " +
			`the broker is not set up as Drainmark needs it: declaring queue "drainmark.deployment": ` +
			"ACCESS_REFUSED - " + access + " to queue 'drainmark.deployment' in vhost '/' refused for user 'nobody'"},
		"amqps, an unknown authority": {broker: r.amqp("amqps", secure, ""), says: says(secure, "tls: failed to verify certificate: "+
			"x509: certificate signed by unknown authority: check cacertfile and server_name_indication")},
		"amqps without a certificate": {broker: r.amqp("amqps", secure, "?cacertfile="+r.ca), says: says(secure,
			"RabbitMQ refuses our TLS (certificate required): check certfile and keyfile")},
		"amqps, no such file": {broker: r.amqp("amqps", secure, "?cacertfile=/nowhere"), says: says(secure, "reading the certificates: "+
			"create TLS config from URI: read CA certificate: open /nowhere: no such file or directory")},
	}
}

// storeRefusals returns the cases of Redis.
func (r refusing) storeRefusals() map[string]refusal {
	plain, secure := r.redis.Port, r.redisTLS
	at := func(scheme, user string, port int) string {
		return fmt.Sprintf("%s://%s@%s:%d", scheme, user, servers.Host, port)
	}
	says := func(to, why string) string {
		return "opening the store: asking the server what it is: connecting to " + to + ": " + why
	}
	to := func(port int) string { return fmt.Sprintf("%s:%d", servers.Host, port) }
	const other = "what answers on this port does not speak the protocol of Redis"
	const login = "user or password is wrong, or the user is off: the server says: WRONGPASS"
	return map[string]refusal{
		"redis to a port with TLS": {store: at("redis", ":secret", secure), says: says(to(secure),
			"this port speaks TLS: use rediss://")},
		"rediss to a port without": {store: at("rediss", ":secret", plain), says: says(to(plain)+": TLS",
			"this port does not speak TLS: use redis:// or another port")},
		"rediss, an unknown authority": {store: at("rediss", ":secret", secure), says: says(to(secure)+": TLS",
			"the server's certificate is not trusted: see ca= and servername= in the URL: "+
				"tls: failed to verify certificate: x509: certificate signed by unknown authority")},
		"rediss without a certificate": {store: at("rediss", ":secret", secure) + "?ca=" + r.ca, says: says(to(secure),
			"the server refuses our TLS: see cert= and key= in the URL: tls: ")}, // in words that differ with the version of TLS,
		"redis to a RabbitMQ":     {store: at("redis", ":secret", r.rabbit.Port), says: says(to(r.rabbit.Port), other)},
		"redis to the management": {store: at("redis", ":secret", r.rabbit.HTTPPort), says: says(to(r.rabbit.HTTPPort), other)},
		"redis, a wrong password": {store: at("redis", ":guess", plain), says: says(to(plain), login)},
		"redis, a wrong user":     {store: at("redis", "anybody:guess", plain), says: says(to(plain), login)},
		"redis, no such database": {store: at("redis", ":secret", plain) + "/99", says: says(to(plain),
			"the URL names database 99: the server says: ERR DB index is out of range")},
		"redis, who may do nothing": {store: at("redis", nobody+":secret", plain), says: "opening the store: reading the deployment: " +
			"the user may not do this: give it the permissions in deploy/permissions/redis.acl: " +
			"the server says: NOPERM this user has no permissions to run the 'get' command"},
	}
}

// An error that no retry can repair ends the process with exit code 2, and says each thing once.
func TestWhatARefusingServerMakesItSay(t *testing.T) {
	t.Parallel()
	r := startRefusing(t)
	cases := r.brokerRefusals()
	maps.Copy(cases, r.storeRefusals())
	maps.Copy(cases, r.natsRefusals())
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.broker == "" {
				test.broker = r.amqp("amqp", r.rabbit.Port, "")
			}
			if test.store == "" {
				test.store = "sqlite:" + filepath.Join(t.TempDir(), "store.db")
			}
			given := setting("DRAINMARK_BROKER="+test.broker, "DRAINMARK_STORE="+test.store)
			p := launchWith(t, given, "consumer", "--admin-listen", "127.0.0.1:0")
			refuses(t, p, "drainmark: "+test.says)
			for _, password := range []string{"secret", "guess", r.rabbit.Password} {
				if strings.Contains(p.said(), password) {
					t.Errorf("it shows a password: %s", p.said())
				}
			}
		})
	}
}
