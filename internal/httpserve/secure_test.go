package httpserve

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drainmark/drainmark/test/servers"
)

// overTLS says whether a test is one of those that are run again over TLS.
func overTLS(t testing.TB) bool { return strings.HasPrefix(t.Name(), "TestOverTLS/") }

// keys are the certificates of all tests.
type keys struct {
	pair tls.Certificate
	pool *x509.CertPool
}

var (
	identityOnce sync.Once
	identities   keys
)

// identity returns the same certificates to all tests.
func identity(t testing.TB) *keys {
	t.Helper()
	identityOnce.Do(func() {
		ca := servers.NewAuthority(t)
		certificate, key := ca.Issue("drainmark.example")
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			t.Error(err)
		}
		text, err := os.ReadFile(ca.Path)
		if err != nil {
			t.Error(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(text)
		identities = keys{pair, pool}
	})
	return &identities
}

func (k *keys) server() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{k.pair}, NextProtos: []string{"h2", "http/1.1"},
		ClientCAs: k.pool, ClientAuth: tls.VerifyClientCertIfGiven,
	}
}

func (k *keys) client() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: k.pool, ServerName: "drainmark.example"}
}

// All that holds for HTTP/1.1 holds for it over TLS too.
func TestOverTLS(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*testing.T){
		"bodies that do not come":       TestARequestWhoseBodyDoesNotComeIsAnswered,
		"bodies that trickle":           TestABodyThatTricklesIsRefused,
		"large requests":                TestALargeRequestThatIsRefusedGetsItsAnswer,
		"what is no request":            TestARequestThatIsNoneGetsItsAnswer,
		"aborted requests":              TestAnAbortedRequestEndsItsConnection,
		"small bodies that nobody read": TestAConnectionIsUsedAgainAfterASmallBodyThatNobodyRead,
		"what is left of a body":        TestWhatIsLeftOfABodyIsNeverTakenForARequest,
		"two lengths":                   TestARequestThatTellsItsLengthInTwoWaysIsRefused,
		"connections used again":        TestConnectionsAreUsedAgain,
		"headers for browsers":          TestAnswersHaveHeadersForBrowsers,
		"too many connections":          TestConnectionsAboveTheLimitAreRefused,
		"counted connections":           TestConnectionsAreCounted,
		"refused clients":               TestClientsThatAreRefusedHoldNothing,
		"headers that do not end":       TestHeadersThatDoNotEndAreBounded,
		"errors of accept":              TestErrorsOfAcceptAreInTheLog,
		"a reserve":                     TestAReserveGivesItsDescriptorsWhenThereIsNone,
		"panics":                        TestPanicsOfHandlersAreInTheLog,
		"the end":                       TestAServerAnswersUntilItIsStopped,
		"the end in order":              TestStop,
	} {
		t.Run(name, test)
	}
}

func TestAClientThatDoesNotSpeakTLSIsTold(t *testing.T) {
	t.Parallel()
	var log logBuffer
	s := start(t, Config{Handler: reads, TLS: identity(t).server, Logger: log.logger()})
	answer, err := http.Get("http://" + s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, _ := io.ReadAll(answer.Body); answer.StatusCode != 400 || !strings.Contains(string(body), "use https://") {
		t.Errorf("%s: %s", answer.Status, body)
	}
	if n := log.lines("clients do not get through the TLS handshake"); n != 1 {
		t.Errorf("%d lines in the log", n)
	}
}

// A client that connects and says nothing, or half of a handshake, is given up, and its place is free again.
func TestAHandshakeThatDoesNotEndIsGivenUp(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Handler: reads, TLS: identity(t).server, Connections: 1})
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	send(t, c, "\x16\x03\x01\x02\x00")
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Error(err)
	}
	secure := tls.Client(dialPlain(t, s.address), identity(t).client())
	if err := secure.HandshakeContext(t.Context()); err != nil {
		t.Error("there is no room: ", err)
	}
}

func dialPlain(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestARequestHasTheClientsCertificate(t *testing.T) {
	t.Parallel()
	s := start(t, Config{TLS: identity(t).server, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := ""
		if len(r.TLS.VerifiedChains) > 0 {
			name = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		_, _ = io.WriteString(w, r.Proto+" "+name)
	})})
	for _, two := range []bool{false, true} {
		for name, want := range map[string]string{"shown": " drainmark.example", "none": " "} {
			config := identity(t).client()
			if name == "shown" {
				config.Certificates = []tls.Certificate{identity(t).pair}
			}
			transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: two}
			defer transport.CloseIdleConnections()
			answer, err := (&http.Client{Transport: transport}).Get("https://" + s.address)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if got := string(body); got != answer.Proto+want || (answer.ProtoMajor == 2) != two {
				t.Errorf("%q, wanted %q", got, answer.Proto+want)
			}
		}
	}
}
