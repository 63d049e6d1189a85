package jetstream

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/test/servers"
)

// operator signs accounts, as nsc does.
type operator struct {
	t    *testing.T
	keys nkeys.KeyPair
	jwt  string
}

func newOperator(t *testing.T) *operator {
	t.Helper()
	o := &operator{t: t}
	var err error
	o.keys, err = nkeys.CreateOperator()
	o.must(err)
	claims := jwt.NewOperatorClaims(o.public(o.keys))
	o.jwt, err = claims.Encode(o.keys)
	o.must(err)
	return o
}

func (o *operator) must(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

func (o *operator) public(of nkeys.KeyPair) string {
	o.t.Helper()
	key, err := of.PublicKey()
	o.must(err)
	return key
}

// account makes an account, which may store so many bytes, and returns its keys and its token.
func (o *operator) account(disk int64) (keys nkeys.KeyPair, token string) {
	o.t.Helper()
	keys, err := nkeys.CreateAccount()
	o.must(err)
	claims := jwt.NewAccountClaims(o.public(keys))
	claims.Limits.DiskStorage = disk
	token, err = claims.Encode(o.keys)
	o.must(err)
	return keys, token
}

// credentials writes the credentials file of a user whom an account has signed.
func (o *operator) credentials(account nkeys.KeyPair) (path string) {
	o.t.Helper()
	user, err := nkeys.CreateUser()
	o.must(err)
	token, err := jwt.NewUserClaims(o.public(user)).Encode(account)
	o.must(err)
	seed, err := user.Seed()
	o.must(err)
	text, err := jwt.FormatUserConfig(token, seed)
	o.must(err)
	path = filepath.Join(o.t.TempDir(), "user.creds")
	o.must(os.WriteFile(path, text, 0o600))
	return path
}

// settings are those of a server that trusts the operator.
func (o *operator) settings(system string, systemKey string, accounts map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: {\n  %s: %s\n", o.jwt, systemKey, systemKey, system)
	for key, token := range accounts {
		fmt.Fprintf(&b, "  %s: %s\n", key, token)
	}
	return b.String() + "}\n"
}

// A credentials file is all that a deployment needs on a server that knows its operator only, over TLS.
func TestCredentials(t *testing.T) {
	t.Parallel()
	o, stranger := newOperator(t), newOperator(t)
	system, systemToken := o.account(0)
	account, token := o.account(1 << 30)
	other, _ := stranger.account(1 << 30)
	authority := servers.NewAuthority(t)
	settings := secured(authority)
	settings.More = o.settings(systemToken, o.public(system), map[string]string{o.public(account): token})
	e := startNATS(t, settings, Options{Partitions: 1, MaxBytes: 64 << 20})
	base := strings.Replace(e.url, "nats://", "tls://", 1) + "?ca=" + authority.Path
	b, err := Open(bounded(t), Config{Options: e.options, URL: base + "&creds=" + o.credentials(account)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	connected(t, b)
	publish(t, b, 1, 1, 3, 10)
	expect(t, open(t, b, ""), 1, 2, 3)
	for what, more := range map[string]string{
		"no credentials":          "",
		"another operator's user": "&creds=" + o.credentials(other),
	} {
		if err := refusalOf(t, Config{Options: e.options, URL: base + more}); !errors.Is(err, broker.ErrMisconfigured) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
