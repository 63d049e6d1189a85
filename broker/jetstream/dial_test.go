package jetstream

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/test/servers"
)

// refusal is a server, or what stands in its place, and what Open must say about it.
type refusal struct {
	settings natsSettings
	host     string // of the URL: 127.0.0.1
	port     int    // which the URL has in place of that of the server's clients
	scheme   string // of the URL: nats
	options  string // of the URL
	says     string
}

// secured are the settings of a server with TLS.
func secured(by *servers.Authority) (s natsSettings) {
	s.CertFile, s.KeyFile = by.Issue("server")
	return s
}

// refusals are what no waiting cures.
func refusals(t *testing.T) map[string]refusal {
	authority, empty := servers.NewAuthority(t), filepath.Join(t.TempDir(), "empty.creds")
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	ca, other := "?ca="+authority.Path, "?ca="+servers.NewAuthority(t).Path
	secure := secured(authority)
	mutual, first := secure, secure
	mutual.CAs, first.HandshakeFirst = authority.Path, true
	http, https, leaf := servers.Port(t), servers.Port(t), servers.Port(t)
	at := func(port int, name string) natsSettings { return natsSettings{More: fmt.Sprintf(name, port)} }
	const protocol = "this port speaks HTTP, as NATS's monitoring does: " + usePort
	return map[string]refusal{
		"TLS, and the server has none":    {scheme: "tls", says: "this NATS does not offer TLS: use nats:// without ca, cert and key"},
		"a CA, and the server has no TLS": {options: ca, says: "this NATS does not offer TLS: use nats:// without ca, cert and key"},
		"no CA, and the server has TLS":   {settings: secure, says: "certificate signed by unknown authority: check ca, and the host's name"},
		"another CA":                      {settings: secure, options: other, says: "certificate signed by unknown authority"},
		"another name":                    {settings: secure, host: "localhost", options: ca, says: "not localhost: check ca, and the host's name"},
		"TLS without a certificate":       {settings: mutual, options: ca, says: "): check cert and key"},
		"TLS from the first byte":         {settings: first, scheme: "tls", options: ca, says: "this port speaks TLS from the first byte: add handshake_first=true"},
		"no TLS from the first byte":      {options: "?handshake_first=true", says: "this port does not begin with TLS: leave handshake_first out"},
		"no such credentials":             {options: "?creds=/nowhere", says: "nats: open /nowhere: no such file or directory"},
		"empty credentials":               {options: "?creds=" + empty, says: "the credentials file cannot be used: "},
		"the monitoring":                  {settings: at(http, "http: 127.0.0.1:%d"), port: http, says: protocol},
		"the monitoring, with TLS":        {settings: at(https, "http: 127.0.0.1:%d"), port: https, scheme: "tls", says: protocol},
		"the port of leaf nodes":          {settings: at(leaf, "leafnodes { listen: 127.0.0.1:%d }"), port: leaf, says: "this is NATS's leaf node port"},
		"no JetStream":                    {settings: natsSettings{NoJetStream: true}, says: "JetStream is not enabled in this NATS"},
		"no JetStream for the account": {
			settings: natsSettings{More: "accounts { A { users: [{user: a, password: a}] } }\nno_auth_user: a"},
			says:     "JetStream is not enabled for this NATS account",
		},
	}
}

func TestWhatNoWaitingCuresIsRefusedAtOnceAndSaysWhatToDo(t *testing.T) {
	t.Parallel()
	for name, test := range refusals(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := startNATS(t, test.settings, Options{Partitions: 1})
			url := e.url
			if test.port != 0 {
				url = fmt.Sprintf("nats://127.0.0.1:%d", test.port)
			}
			if test.host != "" {
				url = strings.Replace(url, "127.0.0.1", test.host, 1)
			}
			if test.scheme != "" {
				url = test.scheme + strings.TrimPrefix(url, "nats")
			}
			config := Config{Options: e.options, URL: url + test.options}
			registryErr := refused(func() (broker.Registry, error) { return OpenRegistry(bounded(t), config) })
			for what, err := range map[string]error{"Open": refusalOf(t, config), "OpenRegistry": registryErr} {
				if !errors.Is(err, broker.ErrMisconfigured) || !strings.Contains(err.Error(), test.says) {
					t.Errorf("%s: %v; it should say %q", what, err, test.says)
				}
			}
		})
	}
}

// One of several servers is wrong and one is away: waiting for that one does not put the other right.
func TestAWrongServerIsNamedAmongThoseThatAreAway(t *testing.T) {
	t.Parallel()
	port := servers.Port(t)
	e := startNATS(t, natsSettings{More: fmt.Sprintf("http: 127.0.0.1:%d", port)}, Options{Partitions: 1})
	err := refusalOf(t, Config{Options: e.options, URL: fmt.Sprintf("nats://127.0.0.1:1,127.0.0.1:%d", port)})
	want := fmt.Sprintf("connecting to NATS at 127.0.0.1:%d: ", port)
	if !errors.Is(err, broker.ErrMisconfigured) || !strings.Contains(err.Error(), want) {
		t.Errorf("Open: %v", err)
	}
}

// A server that is away may come back: one that is down, and one that takes connections and is silent, as a proxy whose server is
// away, or a host that is overloaded.
func TestWhatMayPassIsWaitedFor(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for what, address := range map[string]string{"nobody": "127.0.0.1:1", "a silent one": listener.Addr().String()} {
		b, err := Open(bounded(t), Config{Options: Options{Partitions: 1}, URL: "nats://" + address})
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if err := b.Ping(bounded(t)); !errors.Is(err, broker.ErrNotSent) || errors.Is(err, broker.ErrMisconfigured) {
			t.Errorf("%s: %v", what, err)
		}
		_ = b.Close()
	}
}

func TestTLSFromTheFirstByte(t *testing.T) {
	t.Parallel()
	authority := servers.NewAuthority(t)
	settings := secured(authority)
	settings.HandshakeFirst = true
	e := startNATS(t, settings, Options{Partitions: 1})
	b, err := Open(bounded(t), Config{Options: e.options, URL: e.url + "?handshake_first=true&ca=" + authority.Path})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	connected(t, b)
	publish(t, b, 1, 1, 1, 10)
}

// A certificate that is no longer trusted is reported as such while the process runs, too.
func TestAServerThatIsStartedAgainWithAnotherCertificateIsNamed(t *testing.T) {
	t.Parallel()
	authority := servers.NewAuthority(t)
	e := startNATS(t, secured(authority), Options{Partitions: 1})
	b, err := Open(bounded(t), Config{Options: e.options, URL: e.url + "?ca=" + authority.Path})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	e.kill(t)
	e.settings.CertFile, e.settings.KeyFile = servers.NewAuthority(t).Issue("server")
	e.start(t)
	eventually(t, func() string {
		if err := b.Ping(bounded(t)); !errors.Is(err, broker.ErrMisconfigured) || !strings.Contains(err.Error(), "check ca") {
			return fmt.Sprint(err)
		}
		return ""
	})
}

// Credentials go before the URL's, and may be a token.
func TestCredentialsOfEachConnection(t *testing.T) {
	t.Parallel()
	for settings, who := range map[string][2]string{
		"authorization { users: [{ user: app, password: right }] }": {"app", "right"},
		"authorization { token: right }":                            {"right", ""},
	} {
		server := servers.StartNATS(t, servers.NATSOptions{Settings: []string{settings}})
		url := strings.Replace(server.URL(), "nats://", "nats://app:wrong@", 1)
		b, err := Open(bounded(t), Config{Options: Options{Partitions: 1, Timeout: answerTime}, URL: url, Credentials: func() (user, password string) { return who[0], who[1] }})
		if err != nil {
			t.Errorf("%s: %v", settings, err)
			continue
		}
		connected(t, b)
		if err := errors.Join(b.Ping(bounded(t)), b.Close()); err != nil {
			t.Errorf("%s: %v", settings, err)
		}
		if err := refusalOf(t, Config{Options: Options{Partitions: 1}, URL: url}); !errors.Is(err, broker.ErrMisconfigured) {
			t.Errorf("%s: a wrong password gives %v", settings, err)
		}
	}
}
