package redis

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/drainmark/drainmark/internal/servers"
	"github.com/drainmark/drainmark/store"
)

// authority makes certificates in a directory.
type authority struct {
	t           *testing.T
	dir         string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	template := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, Subject: pkix.Name{CommonName: name}}
	a.certificate, a.key = a.issue(template, "ca")
	return a
}

// issue makes a certificate, signed by the authority or by itself, in <name>.crt, and its key in <name>.key.
func (a *authority) issue(template *x509.Certificate, name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.must(err)
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	a.must(err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	a.must(err)
	a.write(name+".crt", "CERTIFICATE", der)
	a.write(name+".key", "EC PRIVATE KEY", keyDER)
	certificate, err := x509.ParseCertificate(der)
	a.must(err)
	return certificate, key
}

func (a *authority) write(name, kind string, der []byte) {
	a.t.Helper()
	a.must(os.WriteFile(a.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

// plainServer returns the address of a server that answers without TLS. Redis itself waits for more of what it takes for
// a command.
func plainServer(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(servers.Host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	var ended sync.WaitGroup
	ended.Go(func() {
		c, err := listener.Accept()
		if err == nil {
			_, _ = c.Write([]byte("-ERR Protocol error\r\n"))
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	})
	t.Cleanup(func() { _ = listener.Close(); ended.Wait() })
	return listener.Addr().String()
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t, "the authority"), newAuthority(t, "a stranger")
	ca.issue(&x509.Certificate{DNSNames: []string{"redis.example"}, IPAddresses: []net.IP{net.ParseIP(servers.Host)}}, "server")
	ca.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "app"}}, "client")
	port := servers.Port(t)
	servers.StartRedis(t, servers.RedisOptions{Settings: append(access, fmt.Sprint("tls-port ", port), "tls-auth-clients yes",
		"tls-ca-cert-file "+ca.path("ca.crt"), "tls-cert-file "+ca.path("server.crt"), "tls-key-file "+ca.path("server.key"))})
	base := fmt.Sprintf("rediss://%s:%s@%s:%d?", appUser, url.QueryEscape(appPassword), servers.Host, port)
	with := "&cert=" + ca.path("client.crt") + "&key=" + ca.path("client.key")

	good := base + "ca=" + ca.path("ca.crt") + with
	f := newFiller(t, openStore(t, good, Options{}))
	f.must(t, f.next(500, 1000))
	page, err := openReader(t, good+"&servername=redis.example", Options{}).Messages(t.Context(), f.log, 490, 100)
	if err != nil || len(page.Messages) != 10 {
		t.Errorf("the page has %d messages, %v", len(page.Messages), err)
	}

	for what, given := range map[string]string{
		"a certificate that nobody vouches for": base + with[1:],
		"another authority":                     base + "ca=" + stranger.path("ca.crt") + with,
		"another name":                          good + "&servername=other.example",
		"TLS on a port without":                 fmt.Sprintf("rediss://%s?ca=%s", plainServer(t), ca.path("ca.crt")),
	} {
		_, err := Open(t.Context(), given, Options{})
		t.Run(what, func(t *testing.T) { fails(t, err, store.ErrMisconfigured, "TLS") })
	}
	if _, err := Open(t.Context(), base+"ca="+ca.path("ca.crt"), Options{}); err == nil {
		t.Error("the server takes clients without a certificate")
	}
}
