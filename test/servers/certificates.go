package servers

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Authority makes certificates for tests, in a directory that ends with the test.
type Authority struct {
	Path  string        // of its own certificate, in a PEM file
	Lasts time.Duration // how long what it issues is good, an hour if it is 0

	t           T
	dir         string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// NewAuthority makes an authority that nobody trusts yet.
func NewAuthority(t T) *Authority {
	t.Helper()
	a := &Authority{t: t, dir: t.TempDir()}
	a.Path, _ = a.issue("authority", &x509.Certificate{
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

// Issue makes a certificate for a client, and for a server at Host and at the name, and returns the paths of the
// certificate and of its key.
func (a *Authority) Issue(name string) (certificate, key string) {
	a.t.Helper()
	return a.issue(name, &x509.Certificate{
		DNSNames: []string{name}, IPAddresses: []net.IP{net.ParseIP(Host)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

// issue signs a certificate by the authority or, for its own one, by itself.
func (a *Authority) issue(name string, template *x509.Certificate) (certificate, key string) {
	a.t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.must(err)
	template.SerialNumber, template.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(cmp.Or(a.Lasts, time.Hour))
	if a.certificate == nil {
		a.certificate, a.key = template, own
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &own.PublicKey, a.key)
	a.must(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(own)
	a.must(err)
	return a.write(name+".pem", "CERTIFICATE", der), a.write(name+"-key.pem", "PRIVATE KEY", keyDER)
}

func (a *Authority) write(name, kind string, der []byte) (path string) {
	a.t.Helper()
	path = filepath.Join(a.dir, name)
	a.must(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
}

func (a *Authority) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatalf("making a certificate: %v", err)
	}
}
