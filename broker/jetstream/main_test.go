package jetstream

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/goleak"
)

// roleVariable makes the test binary run as something else: a process that a test can kill.
const roleVariable = "DRAINMARK_JETSTREAM_TEST_ROLE"

// roles are what it can run as.
var roles = map[string]func(){}

// register adds a role.
func register(name string, run func()) string {
	roles[name] = run
	return name
}

func TestMain(m *testing.M) {
	if run, ok := roles[os.Getenv(roleVariable)]; ok {
		run()
		return
	}
	goleak.VerifyTestMain(m)
}

var natsRole = register("nats", runNATS)

// natsSettings are for a NATS server in a process of its own. They travel through its environment, as JSON.
type natsSettings struct {
	Dir                    string
	Port                   int
	User, Password         string
	CertFile, KeyFile, CAs string // TLS, if set (with CAs, clients must show a certificate)
	HandshakeFirst         bool
	NoJetStream            bool
	MaxPayload             int32
	MaxStore               int64
	Deny                   string // a subject that the user may not publish to
	More                   string // further lines of a server's settings file
	Name                   string
	Routes                 []string // of a cluster: all of its members'
	ClusterPort            int
}

const settingsVariable = "DRAINMARK_JETSTREAM_TEST_SETTINGS"

// runNATS runs a server until it is killed, or its standard input ends because the test has.
func runNATS() {
	var s natsSettings
	if err := json.Unmarshal([]byte(os.Getenv(settingsVariable)), &s); err != nil {
		fatal(err)
	}
	o := &server.Options{
		ServerName: s.Name, Host: "127.0.0.1", Port: s.Port, NoSigs: true, NoLog: true,
		JetStream: !s.NoJetStream, StoreDir: s.Dir, SyncAlways: true, MaxPayload: s.MaxPayload,
		Username: s.User, Password: s.Password,
	}
	if s.More != "" {
		if err := o.ProcessConfigString(s.More); err != nil {
			fatal(err)
		}
	}
	if s.MaxStore > 0 {
		o.JetStreamMaxStore = s.MaxStore
	}
	if s.Deny != "" {
		o.Users = []*server.User{{Username: s.User, Password: s.Password, Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Deny: []string{s.Deny}},
		}}}
		o.Username, o.Password = "", ""
	}
	if s.CertFile != "" {
		config, err := server.GenTLSConfig(&server.TLSConfigOpts{
			CertFile: s.CertFile, KeyFile: s.KeyFile, CaFile: s.CAs, Verify: s.CAs != "", Timeout: 2,
		})
		if err != nil {
			fatal(err)
		}
		o.TLSConfig, o.TLS, o.TLSVerify, o.TLSTimeout, o.TLSHandshakeFirst = config, true, s.CAs != "", 2, s.HandshakeFirst
	}
	if s.Routes != nil {
		o.Cluster = server.ClusterOpts{Name: "cluster", Host: "127.0.0.1", Port: s.ClusterPort}
		for _, route := range s.Routes {
			u, err := url.Parse(route)
			if err != nil {
				fatal(err)
			}
			o.Routes = append(o.Routes, u)
		}
	}
	ns, err := server.NewServer(o)
	if err != nil {
		fatal(err)
	}
	ns.Start()
	if !ns.ReadyForConnections(patience) {
		fatal("the server is not ready")
	}
	fmt.Println("ready", ns.Addr().String())
	io.Copy(io.Discard, os.Stdin)
}

func fatal(why any) {
	fmt.Println("failed", why)
	os.Exit(1)
}
