package postgres

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/test/servers"
)

func TestTLS(t *testing.T) {
	t.Parallel()
	ca, stranger := servers.NewAuthority(t), servers.NewAuthority(t)
	certificate, key := ca.Issue("postgres.example")
	clientCertificate, clientKey := ca.Issue("client")
	strangeCertificate, strangeKey := stranger.Issue("client")
	p := servers.StartPostgres(t, servers.PostgresOptions{
		Certificate: certificate, Key: key, Authority: ca.Path,
		Access: []string{"hostssl all client,other all cert", "hostnossl all client,other all reject"},
	})
	p.Do("CREATE ROLE client LOGIN; CREATE ROLE other LOGIN; GRANT CREATE ON DATABASE postgres TO client")
	base := fmt.Sprintf("postgres://client@%s/postgres?sslmode=", p.Address())
	as := func(certificate, key string) string { return "&sslcert=" + certificate + "&sslkey=" + key }
	with := as(clientCertificate, clientKey)

	good := base + "verify-full&sslrootcert=" + ca.Path + with
	f := newFiller(t, openStore(t, good, Options{}))
	f.must(t, f.next(3, 10))
	if n, _ := f.count(t, openReader(t, good, Options{})); n != 3 {
		t.Errorf("there are %d messages", n)
	}
	named := strings.Replace(good, servers.Host, "localhost", 1)
	for _, c := range []struct{ what, url, says string }{
		{"another authority", base + "verify-full&sslrootcert=" + stranger.Path + with, "certificate is not trusted"},
		{"another name", named, "certificate is not trusted"},
		{"no certificate", base + "verify-full&sslrootcert=" + ca.Path, "does not let us in"},
		{"a certificate that nobody vouches for", base + "verify-full&sslrootcert=" + ca.Path + as(strangeCertificate, strangeKey), "refuses our TLS"},
		{"another user's certificate", strings.Replace(good, "client@", "other@", 1), "does not let us in"},
		{"no TLS", base + "disable", "does not let us in"},
	} {
		for range 3 { // a server that hangs up may be quicker than its reason
			_, err := Open(t.Context(), c.url, Options{})
			if err == nil {
				t.Fatalf("%s is no error", c.what)
			}
			fails(t, err, store.ErrMisconfigured, c.says)
		}
	}
}

// TestPasswordsFromFiles: a password need not be in the URL.
func TestPasswordsFromFiles(t *testing.T) {
	t.Parallel()
	p := servers.StartPostgres(t, servers.PostgresOptions{Access: []string{"host all guarded all scram-sha-256"}})
	p.Do(fmt.Sprintf("CREATE ROLE guarded LOGIN PASSWORD '%s'; GRANT CREATE ON DATABASE postgres TO guarded", secret))
	file := filepath.Join(t.TempDir(), "pgpass")
	line := fmt.Sprintf("%s:%d:postgres:guarded:%s\n", servers.Host, p.Public, secret)
	if err := os.WriteFile(file, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	f := newFiller(t, openStore(t, p.URL("guarded")+"&passfile="+file, Options{}))
	f.must(t, f.next(1, 10))
	without := func() (user, password string) { return "guarded", "" }
	openStore(t, p.URL("guarded")+"&passfile="+file, Options{Credentials: without})
	_, err := Open(t.Context(), p.URL("guarded")+"&passfile="+file+".none", Options{})
	fails(t, err, store.ErrMisconfigured, "")
}

// A connection shows the certificate that the files have by then: it can be renewed without a restart.
func TestCertificatesAreReadAgain(t *testing.T) {
	t.Parallel()
	ca, stranger := servers.NewAuthority(t), servers.NewAuthority(t)
	own, ownKey := ca.Issue("postgres.example")
	p := servers.StartPostgres(t, servers.PostgresOptions{
		Certificate: own, Key: ownKey, Authority: ca.Path, Access: []string{"hostssl all client all cert"},
	})
	p.Do("CREATE ROLE client LOGIN; GRANT CREATE ON DATABASE postgres TO client")
	certificate, key := ca.Issue("client")
	s := openStore(t, fmt.Sprintf("postgres://client@%s/postgres?sslmode=verify-full&sslrootcert=%s&sslcert=%s&sslkey=%s",
		p.Address(), ca.Path, certificate, key), Options{})
	renew := func(from *servers.Authority) {
		t.Helper()
		other, otherKey := from.Issue("client")
		if err := errors.Join(os.Rename(other, certificate), os.Rename(otherKey, key)); err != nil {
			t.Fatal(err)
		}
		p.Do("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'client'")
	}
	renew(stranger)
	eventually(t, "it is refused", func() bool {
		_, err := s.Deployment(t.Context())
		return errors.Is(err, store.ErrMisconfigured)
	})
	renew(ca)
	eventually(t, "it is let in", func() bool {
		_, err := s.Deployment(t.Context())
		return err == nil || errors.Is(err, store.ErrNotFound)
	})
}
