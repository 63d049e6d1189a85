package app

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drainmark/drainmark/test/servers"
)

// keyring is a directory of a certificate, its key and its authority, as a Secret of Kubernetes has them.
type keyring struct {
	t    *testing.T
	ca   *servers.Authority
	dir  string
	next int
}

func newKeyring(t *testing.T, ca *servers.Authority, name string) *keyring {
	t.Helper()
	k := &keyring{t: t, ca: ca, dir: t.TempDir()}
	k.issue(name)
	for _, file := range []string{"tls.crt", "tls.key", "ca.crt"} {
		k.must(os.Symlink(filepath.Join("..data", file), k.path(file)))
	}
	return k
}

func (k *keyring) must(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

func (k *keyring) path(file string) string { return filepath.Join(k.dir, file) }

// issue has a new certificate in the directory, in one step.
func (k *keyring) issue(name string) {
	k.t.Helper()
	certificate, key := k.ca.Issue(name)
	k.put(map[string]string{"tls.crt": certificate, "tls.key": key, "ca.crt": k.ca.Path})
}

// put has copies of other files in the directory, in one step.
func (k *keyring) put(files map[string]string) {
	k.t.Helper()
	k.next++
	version := fmt.Sprint("..", k.next)
	k.must(os.Mkdir(k.path(version), 0o700))
	for name, from := range files {
		text, err := os.ReadFile(from)
		k.must(err)
		k.must(os.WriteFile(filepath.Join(k.dir, version, name), text, 0o600))
	}
	k.must(os.Symlink(version, k.path("..new")))
	k.must(os.Rename(k.path("..new"), k.path("..data")))
}

// serves returns the settings of a role that serves with the keyring.
func (k *keyring) serves(auth string) []string {
	return []string{"--tls-cert", k.path("tls.crt"), "--tls-key", k.path("tls.key"), "--tls-client-ca", k.path("ca.crt"), "--tls-client-auth", auth}
}

// client returns a client that trusts the keyring's authority, and shows a certificate of another one's, nil for none.
func (k *keyring) client(shown *keyring, two bool) *http.Client {
	k.t.Helper()
	text, err := os.ReadFile(k.ca.Path)
	k.must(err)
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
	config.RootCAs.AppendCertsFromPEM(text)
	if shown != nil {
		pair, err := tls.LoadX509KeyPair(shown.path("tls.crt"), shown.path("tls.key"))
		k.must(err)
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: two}
	k.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

// get returns an answer's status, 0 if there is none.
func get(c *http.Client, url string) int {
	answer, err := c.Get(url)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	_ = answer.Body.Close()
	return answer.StatusCode
}

func TestWhoIsServedOverTLS(t *testing.T) {
	t.Parallel()
	ca := servers.NewAuthority(t)
	ours, client := newKeyring(t, ca, "drainmark.example"), newKeyring(t, ca, "client")
	stranger := newKeyring(t, servers.NewAuthority(t), "client")
	const refused = 0
	for auth, want := range map[string][3][3]int{ // by certificate: none, one of ours, a stranger's; API, metrics, livez
		"require": {{refused, 403, 200}, {200, 200, 200}, {refused, refused, refused}},
		"request": {{200, 200, 200}, {200, 200, 200}, {refused, refused, refused}},
		"none":    {{200, 200, 200}, {200, 200, 200}, {200, 200, 200}},
	} {
		t.Run(auth, func(t *testing.T) {
			t.Parallel()
			p := up(t, t.TempDir(), ours.serves(auth)...)
			if !strings.HasPrefix(p.api, "https://") || !strings.HasPrefix(p.admin, "https://") {
				t.Fatalf("it serves %s and %s", p.api, p.admin)
			}
			for i, shown := range []*keyring{nil, client, stranger} {
				for _, two := range []bool{false, true} {
					c := ours.client(shown, two)
					got := [3]int{get(c, p.api+"/v1"), get(c, p.admin+"/metrics"), get(c, p.admin+"/livez")}
					if got != want[i] {
						t.Errorf("certificate %d, HTTP/2 %v: %v, not %v", i, two, got, want[i])
					}
				}
			}
			healthcheckSays(t, exitOK, "ready\n", []string{"DRAINMARK_TLS_CERT=" + ours.path("tls.crt")}, "--admin-listen", strings.TrimPrefix(p.admin, "https://"))
			if _, code := p.stop(); code != exitOK {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// followOver2 opens an event stream, and sends the name of each event that comes, until its end.
func followOver2(t *testing.T, c *http.Client, url string) <-chan string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	patient := *c
	patient.Timeout = 0
	answer, err := patient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != 200 || answer.ProtoMajor != 2 {
		t.Fatalf("%s by %s", answer.Status, answer.Proto)
	}
	lines := make(chan string, 100)
	go func() {
		defer answer.Body.Close()
		defer close(lines)
		for from := bufio.NewScanner(answer.Body); from.Scan(); {
			if data, ok := strings.CutPrefix(from.Text(), "data:"); ok {
				lines <- data
			}
		}
	}()
	return lines
}

// post appends a message.
func post(c *http.Client, url, text string) error {
	answer, err := c.Post(url, "text/plain", strings.NewReader(text))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("it is answered %s", answer.Status)
	}
	return nil
}

// appendWithNew appends with new connections all the time, until the returned function is called.
func appendWithNew(t *testing.T, k *keyring, shown *keyring, url string) (end func() int64) {
	t.Helper()
	var n atomic.Int64
	var clients sync.WaitGroup
	stop := make(chan struct{})
	for i := range 4 {
		c := k.client(shown, i%2 == 0)
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := post(c, url, "load"); err != nil {
					t.Error(err)
					return
				}
				n.Add(1)
				c.CloseIdleConnections()
			}
		})
	}
	return func() int64 {
		close(stop)
		clients.Wait()
		return n.Load()
	}
}

// shown returns the name in the certificate that a new connection gets.
func shown(t *testing.T, k *keyring, url string) string {
	t.Helper()
	c, err := tls.Dial("tcp", strings.TrimPrefix(url, "https://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].Subject.CommonName
}

// New connections get new certificates, through a frontend and its backend, and what runs goes on.
func TestCertificatesAreRotatedUnderLoad(t *testing.T) {
	t.Parallel()
	ca := servers.NewAuthority(t)
	ours, theirs := newKeyring(t, ca, "first"), newKeyring(t, ca, "front")
	back := up(t, t.TempDir(), ours.serves("require")...)
	front := start(t, append(append([]string{"frontend"}, free...), "--backend", back.api, "--backend-ca", ours.path("ca.crt"),
		"--backend-cert", theirs.path("tls.crt"), "--backend-key", theirs.path("tls.key"), "--tls-cert", theirs.path("tls.crt"), "--tls-key", theirs.path("tls.key"))...)
	front.findAdmin()
	c := ours.client(theirs, true)
	streams := []<-chan string{followOver2(t, c, back.api+"/v1/logs/a/events"), followOver2(t, c, front.api+"/v1/logs/a/events")}
	end := appendWithNew(t, ours, theirs, front.api+"/v1/logs/b/messages")
	ours.issue("second")
	theirs.issue("behind")
	back.await("new connections get the new certificate", func() bool { return shown(t, ours, back.api) == "second" })
	front.await("and so do the frontend's", func() bool { return shown(t, ours, front.api) == "behind" })
	front.await("which will show backends the new one", func() bool { // its connections may last, and the metrics look too
		if answer, err := c.Get(front.admin + "/metrics"); err == nil {
			_ = answer.Body.Close()
		}
		return strings.Contains(front.said(), `read again" certificate=backend`)
	})
	if n := end(); n == 0 {
		t.Error("nothing was appended meanwhile")
	}
	if err := post(ours.client(theirs, true), front.api+"/v1/logs/a/messages", "hello"); err != nil {
		t.Error(err)
	}
	for _, events := range streams {
		select {
		case data, ok := <-events:
			if !ok || !strings.Contains(data, "hello") {
				t.Errorf("the stream has %q, %v", data, ok)
			}
		case <-time.After(time.Minute):
			t.Error("a stream has ended with the certificate")
		}
	}
	certificate, _ := ca.Issue("third")
	ours.put(map[string]string{"tls.crt": certificate, "tls.key": ours.path("tls.key"), "ca.crt": ca.Path}) // the key of another
	back.await("the trouble is in the log", func() bool {
		_ = shown(t, ours, back.api)
		return strings.Contains(back.said(), "the TLS files have changed and cannot be used")
	})
	if name := shown(t, ours, back.api); name != "second" {
		t.Errorf("with a broken pair it shows %s", name)
	}
}

// A backend that a frontend does not trust, or that does not trust the frontend, gets no request.
func TestFrontendsAndBackendsVerifyEachOther(t *testing.T) {
	t.Parallel()
	ca := servers.NewAuthority(t)
	ours, stranger := newKeyring(t, ca, "drainmark.example"), newKeyring(t, servers.NewAuthority(t), "stranger")
	back := up(t, t.TempDir(), ours.serves("require")...)
	for what, c := range map[string]struct{ trusts, shows *keyring }{
		"they know each other":        {ours, ours},
		"another authority":           {stranger, ours},
		"a stranger's certificate":    {ours, stranger},
		"no certificate is presented": {ours, nil},
	} {
		t.Run(what, func(t *testing.T) { // one after the other: the backend lives for some minutes only
			arguments := append(append([]string{"frontend"}, free...), "--backend", back.api, "--backend-ca", c.trusts.path("ca.crt"))
			if c.shows != nil {
				arguments = append(arguments, "--backend-cert", c.shows.path("tls.crt"), "--backend-key", c.shows.path("tls.key"))
			}
			front := start(t, arguments...)
			front.findAdmin()
			want := 503
			if c.trusts == ours && c.shows == ours {
				want = 202
			}
			if a := front.want(want, "POST", "/v1/logs/a/messages", "x", "Content-Type", "text/plain"); want == 503 && !strings.Contains(string(a.body), "nothing was done") {
				t.Errorf("%s", a.body)
			}
		})
	}
}

func TestVerifyOverTLS(t *testing.T) {
	t.Parallel()
	ours := newKeyring(t, servers.NewAuthority(t), "drainmark.example")
	p := up(t, t.TempDir(), ours.serves("require")...)
	var said strings.Builder
	arguments := []string{"verify", "--url", p.api, "--messages", "200", "--ca", ours.path("ca.crt")}
	if code := run(t.Context(), append(arguments, "--cert", ours.path("tls.crt"), "--key", ours.path("tls.key")), &said, &said); code != exitOK {
		t.Errorf("exit code %d: %s", code, said.String())
	}
	said.Reset()
	if code := run(t.Context(), append(arguments, "--contact", "100ms"), &said, &said); code != exitUnavailable {
		t.Errorf("without a certificate, exit code %d: %s", code, said.String())
	}
}

func TestBadTLSSettings(t *testing.T) {
	t.Parallel()
	ca := servers.NewAuthority(t)
	certificate, key := ca.Issue("a")
	_, other := ca.Issue("b")
	both := "up --tls-cert " + certificate + " --tls-key " + key
	front := "frontend --backend https://a:1 "
	for arguments, want := range map[string]string{
		"up --tls-cert " + certificate:                         "--tls-cert and --tls-key (DRAINMARK_TLS_CERT, DRAINMARK_TLS_KEY) go together",
		"up --tls-client-ca " + ca.Path:                        "need --tls-cert",
		"up --tls-client-auth require":                         "need --tls-cert",
		both + " --tls-client-auth require":                    "--tls-client-auth (DRAINMARK_TLS_CLIENT_AUTH): require: it needs --tls-client-ca",
		both + " --tls-client-auth perhaps":                    "require, request or none",
		both + " --tls-client-ca " + key:                       "there is no certificate in PEM in it",
		"up --tls-cert " + certificate + " --tls-key " + other: "private key does not match",
		"up --tls-cert nowhere --tls-key " + key:               "no such file",
		front + "--backend-cert " + certificate:                "--backend-cert and --backend-key go together",
		front + "--backend-ca nowhere":                         "--backend-ca",
		"verify --cert " + certificate:                         "--cert and --key go together",
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			all := strings.Fields(arguments)
			switch all[0] {
			case "up":
				all = append(append(all, "--data", t.TempDir()), free...)
			case "frontend":
				all = append(all, free...)
			}
			var said strings.Builder
			if code := run(t.Context(), all, &said, &said); code != exitUsage || !strings.Contains(said.String(), want) {
				t.Errorf("exit code %d: %s", code, said.String())
			}
		})
	}
}
