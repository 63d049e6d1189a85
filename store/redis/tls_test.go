package redis

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/test/servers"
)

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
	ca, stranger := servers.NewAuthority(t), servers.NewAuthority(t)
	certificate, key := ca.Issue("redis.example")
	clientCertificate, clientKey := ca.Issue("client")
	port := servers.Port(t)
	servers.StartRedis(t, servers.RedisOptions{Roles: true, Settings: []string{fmt.Sprint("tls-port ", port), "tls-auth-clients yes",
		"tls-ca-cert-file " + ca.Path, "tls-cert-file " + certificate, "tls-key-file " + key}})
	base := servers.As(servers.ConsumerUser, fmt.Sprintf("rediss://%s:%d?", servers.Host, port))
	with := "&cert=" + clientCertificate + "&key=" + clientKey

	good := base + "ca=" + ca.Path + with
	f := newFiller(t, openStore(t, good, Options{}))
	f.must(t, f.next(500, 1000))
	page, err := openReader(t, servers.As(servers.BackendUser, good)+"&servername=redis.example", Options{}).Messages(t.Context(), f.log, 490, 100)
	if err != nil || len(page.Messages) != 10 {
		t.Errorf("the page has %d messages, %v", len(page.Messages), err)
	}

	for what, given := range map[string]string{
		"a certificate that nobody vouches for": base + with[1:],
		"another authority":                     base + "ca=" + stranger.Path + with,
		"another name":                          good + "&servername=other.example",
		"TLS on a port without":                 fmt.Sprintf("rediss://%s?ca=%s", plainServer(t), ca.Path),
	} {
		_, err := Open(t.Context(), given, Options{})
		t.Run(what, func(t *testing.T) { fails(t, err, store.ErrMisconfigured, "TLS") })
	}
	if _, err := Open(t.Context(), base+"ca="+ca.Path, Options{}); err == nil {
		t.Error("the server takes clients without a certificate")
	}
}

// hangsUp returns the address of a server that wants certificates. With TLS 1.3 it hangs up after the handshake, and so
// that its reason is lost, as a server does when it has not read what was sent to it.
func hangsUp(t *testing.T, ca *servers.Authority) string {
	t.Helper()
	own, err := tls.LoadX509KeyPair(ca.Issue("redis.example"))
	if err != nil {
		t.Fatal(err)
	}
	newer := &tls.Config{Certificates: []tls.Certificate{own}}
	older := &tls.Config{Certificates: []tls.Certificate{own}, MaxVersion: tls.VersionTLS12, ClientAuth: tls.RequireAnyClientCert}
	choose := func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(hello.SupportedVersions, tls.VersionTLS13) {
			return newer, nil
		}
		return older, nil
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(servers.Host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	var ended sync.WaitGroup
	ended.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_ = tls.Server(c, &tls.Config{GetConfigForClient: choose}).Handshake()
			_ = c.(*net.TCPConn).SetLinger(0) // a reset
			_ = c.Close()
		}
	})
	t.Cleanup(func() { _ = listener.Close(); ended.Wait() })
	return listener.Addr().String()
}

func TestAServerThatHangsUpForWantOfACertificate(t *testing.T) {
	t.Parallel()
	ca := servers.NewAuthority(t)
	given := fmt.Sprintf("rediss://%s?ca=%s", hangsUp(t, ca), ca.Path)
	for range 20 { // what fails is now writing, now reading
		_, err := Open(t.Context(), given, Options{})
		fails(t, err, store.ErrMisconfigured, "the server refuses our TLS")
	}
}

// A connection shows the certificate that the files have by then: it can be renewed without a restart.
func TestCertificatesAreReadAgain(t *testing.T) {
	t.Parallel()
	ca, stranger := servers.NewAuthority(t), servers.NewAuthority(t)
	own, ownKey := ca.Issue("redis.example")
	port := servers.Port(t)
	server := servers.StartRedis(t, servers.RedisOptions{Settings: []string{fmt.Sprint("tls-port ", port),
		"tls-ca-cert-file " + ca.Path, "tls-cert-file " + own, "tls-key-file " + ownKey}})
	certificate, key := ca.Issue("client")
	s := openStore(t, fmt.Sprintf("rediss://%s:%d?ca=%s&cert=%s&key=%s", servers.Host, port, ca.Path, certificate, key), Options{})
	renew := func(from *servers.Authority) {
		t.Helper()
		other, otherKey := from.Issue("renewed")
		if err := errors.Join(os.Rename(other, certificate), os.Rename(otherKey, key)); err != nil {
			t.Fatal(err)
		}
		server.Do("CLIENT", "KILL", "TYPE", "normal")
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
