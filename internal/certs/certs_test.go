package certs

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/drainmark/drainmark/test/servers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// secret is a directory of files as Kubernetes mounts it: all of them change in one step.
type secret struct {
	t    *testing.T
	dir  string
	next int
}

func newSecret(t *testing.T, files map[string]string) *secret {
	s := &secret{t: t, dir: t.TempDir()}
	s.put(files)
	for name := range files {
		s.must(os.Symlink(filepath.Join("..data", name), s.path(name)))
	}
	return s
}

func (s *secret) path(name string) string { return filepath.Join(s.dir, name) }

// put replaces all files by copies of others.
func (s *secret) put(files map[string]string) {
	s.t.Helper()
	s.next++
	version := "..version" + strings.Repeat("x", s.next)
	s.must(os.Mkdir(s.path(version), 0o700))
	for name, from := range files {
		text, err := os.ReadFile(from)
		s.must(err)
		s.must(os.WriteFile(filepath.Join(s.dir, version, name), text, 0o600))
	}
	s.must(os.Symlink(version, s.path("..new")))
	s.must(os.Rename(s.path("..new"), s.path("..data")))
}

func (s *secret) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// logBuffer is a log that several goroutines write.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

// opened is a source of a secret's files.
func opened(t *testing.T, of *secret) (*Source, *logBuffer, *prometheus.Registry) {
	t.Helper()
	log, registry := &logBuffer{}, prometheus.NewRegistry()
	s, err := Open(Config{
		Cert: of.path("tls.crt"), Key: of.path("tls.key"), CA: of.path("ca.crt"), Name: "server", Metrics: registry,
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, log, registry
}

// files issues a certificate, and says which files a secret with it has.
func files(ca *servers.Authority, name string) map[string]string {
	certificate, key := ca.Issue(name)
	return map[string]string{"tls.crt": certificate, "tls.key": key, "ca.crt": ca.Path}
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain until ", what)
		}
	}
}

func nameIn(s *Source) string { return s.Now().Pair.Leaf.Subject.CommonName }

func TestFilesAreReadAgainWhenTheyChange(t *testing.T) {
	t.Parallel()
	ca, other := servers.NewAuthority(t), servers.NewAuthority(t)
	first, second := files(ca, "first"), files(other, "second")
	in := newSecret(t, first)
	s, log, registry := opened(t, in)
	server, client := s.Server(tls.NoClientCert), s.Client()
	before, beforeClient := server(), client()
	if before != server() || nameIn(s) != "first" {
		t.Error("a configuration is not kept")
	}
	in.put(second)
	await(t, "the new certificate is used", func() bool { return nameIn(s) == "second" })
	if after := server(); after == before || after.Certificates[0].Leaf.Subject.CommonName != "second" || after.ClientCAs.Equal(before.ClientCAs) {
		t.Error("a server goes on with the old files")
	}
	if after := client(); after == beforeClient || after.Certificates[0].Leaf.Subject.CommonName != "second" || after.RootCAs.Equal(beforeClient.RootCAs) {
		t.Error("a client goes on with the old files")
	}
	if n := log.count("the TLS files were read again"); n != 1 {
		t.Errorf("%d lines in the log", n)
	}
	want := `# HELP drainmark_tls_reloads_total Times that TLS files were read again, by certificate (server, backend) and outcome: read, or failed, when the old ones are used on.
# TYPE drainmark_tls_reloads_total counter
drainmark_tls_reloads_total{certificate="server",outcome="failed"} 0
drainmark_tls_reloads_total{certificate="server",outcome="read"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "drainmark_tls_reloads_total"); err != nil {
		t.Error(err)
	}
	if got := ends(t, registry); got != float64(s.Now().Pair.Leaf.NotAfter.Unix()) {
		t.Errorf("the certificate ends at %v", got)
	}
}

// ends returns the metric of the certificate's end.
func ends(t *testing.T, registry *prometheus.Registry) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "drainmark_tls_certificate_not_after_seconds" {
			return f.Metric[0].Gauge.GetValue()
		}
	}
	t.Fatal("there is no metric of the certificate's end")
	return 0
}

func TestFilesThatCannotBeUsedChangeNothing(t *testing.T) {
	t.Parallel()
	ca := servers.NewAuthority(t)
	first, second := files(ca, "first"), files(ca, "second")
	for what, broken := range map[string]map[string]string{
		"a key of another certificate": {"tls.crt": second["tls.crt"], "tls.key": first["tls.key"], "ca.crt": ca.Path},
		"no certificate":               {"tls.crt": second["tls.key"], "tls.key": second["tls.key"], "ca.crt": ca.Path},
		"no authority":                 {"tls.crt": second["tls.crt"], "tls.key": second["tls.key"], "ca.crt": second["tls.key"]},
		"a file that is missing":       {"tls.crt": second["tls.crt"], "tls.key": second["tls.key"]},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			in := newSecret(t, first)
			s, log, _ := opened(t, in)
			before := s.Now()
			in.put(broken)
			await(t, "it was tried twice", func() bool { s.Now(); return testutil.ToFloat64(s.metrics.failed) >= 2 })
			if s.Now() != before {
				t.Error("the old files are not used on")
			}
			if n := log.count("level=ERROR"); n != 1 {
				t.Errorf("%d errors in the log", n)
			}
			in.put(second)
			await(t, "files that can be used are", func() bool { return nameIn(s) == "second" })
			in.put(broken)
			await(t, "the next trouble is in the log", func() bool { s.Now(); return log.count("level=ERROR") == 2 })
		})
	}
}

// A file that is written over, and not replaced, is noticed by its size or time.
func TestAFileThatIsWrittenOver(t *testing.T) {
	t.Parallel()
	ca := servers.NewAuthority(t)
	first := files(ca, "first")
	in := newSecret(t, first)
	for name := range first { // a file system's clock is coarse
		in.must(os.Chtimes(in.path(name), time.Time{}, time.Now().Add(-time.Minute)))
	}
	s, _, _ := opened(t, in)
	for name, from := range files(ca, "second") {
		text, err := os.ReadFile(from)
		in.must(err)
		in.must(os.WriteFile(in.path(name), text, 0o600))
	}
	await(t, "the new certificate is used", func() bool { return nameIn(s) == "second" })
}

func TestWhatCannotBeOpened(t *testing.T) {
	t.Parallel()
	ca := servers.NewAuthority(t)
	certificate, key := ca.Issue("a")
	_, another := ca.Issue("b")
	for what, c := range map[string]Config{
		"no file":      {Cert: certificate, Key: key + "x"},
		"another key":  {Cert: certificate, Key: another},
		"no authority": {CA: key},
	} {
		if _, err := Open(c); err == nil {
			t.Errorf("%s: it is opened", what)
		}
	}
	if _, err := Open(Config{CA: "nowhere"}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
