package amqp10

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/test/servers"
)

// unknown is before what is said of an error that may pass.
const unknown = "perhaps: "

// TestLogin is about TLS, the ways to log in, and vhosts, on RabbitMQ 4. Of those who are refused, each error says what to
// look at, and none shows a password.
func TestLogin(t *testing.T) {
	t.Parallel()
	us, others := servers.NewAuthority(t), servers.NewAuthority(t)
	certificate, key := us.Issue("server")
	server := servers.StartRabbitMQ(t, servers.RabbitMQOptions{Version: 4, CA: us.Path, Certificate: certificate, Key: key})
	server.AddUser("client")
	server.Permit("client", ".*", ".*", ".*")
	server.Eval(`ok = rabbit_vhost:add(<<"other">>, <<"test">>), ok = rabbit_auth_backend_internal:set_permissions(<<"client">>, <<"other">>, <<".*">>, <<".*">>, <<".*">>, <<"test">>)`)
	pair := func(a *servers.Authority, name string) string {
		certificate, key := a.Issue(name)
		return fmt.Sprintf("cert=%s&key=%s", certificate, key)
	}
	ca, ours := "ca="+us.Path, pair(us, "client")
	tls, plain := fmt.Sprintf("%s:%d", servers.Host, server.TLSPort), fmt.Sprintf("%s:%d", servers.Host, server.Port)
	for name, test := range map[string]struct{ url, want string }{
		"a password":                           {"amqp10://client:secret@" + plain, ""},
		"a password over TLS":                  {"amqp10s://client:secret@" + tls + "?" + ca + "&" + ours, ""},
		"a certificate":                        {"amqp10s://" + tls + "?sasl=external&" + ca + "&" + ours, ""},
		"another vhost":                        {"amqp10://client:secret@" + plain + "?vhost=other", ""},
		"a vhost that is not there":            {"amqp10://client:secret@" + plain + "?vhost=none", unknown + "check vhost"},
		"a wrong password":                     {"amqp10://client:s3cret@" + plain, "refuses the login"},
		"nobody":                               {"amqp10://" + plain, "correct sasl"},
		"a certificate of a user who is not":   {"amqp10s://" + tls + "?sasl=external&" + ca + "&" + pair(us, "somebody"), "refuses the login"},
		"a certificate that nobody has signed": {"amqp10s://client:secret@" + tls + "?" + ca + "&" + pair(others, "client"), "check cert and key"},
		"no certificate":                       {"amqp10s://client:secret@" + tls + "?" + ca, "check cert and key"},
		"an authority that is not trusted":     {"amqp10s://client:secret@" + tls + "?" + ours, "check ca"},
		"TLS where there is none":              {"amqp10s://client:secret@" + plain + "?" + ca, "does not speak TLS"},
		"a file that is not there":             {"amqp10s://client:secret@" + tls + "?ca=/nowhere", "/nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := Open(t.Context(), Config{URL: test.url, Partitions: 1, settle: 100 * time.Millisecond, Timeout: answerTime})
			if err == nil {
				defer b.Close()
				err = b.Publish(t.Context(), 0, single(1))
			}
			want, passes := strings.CutPrefix(test.want, unknown)
			switch {
			case test.want == "" && err != nil:
				t.Errorf("it fails with %v", err)
			case test.want != "" && (errors.Is(err, broker.ErrMisconfigured) == passes || !strings.Contains(err.Error(), want)):
				t.Errorf("it ends with %v, which should say %q", err, test.want)
			case err != nil && strings.Contains(err.Error(), "cret@"):
				t.Errorf("%v shows a password", err)
			}
		})
	}
}
