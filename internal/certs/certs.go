// Package certs keeps certificates, keys and authorities that are files, and reads the files again when they have
// changed. Servers and clients of the program use it alike.
package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// lookEvery is how often the files are looked at, at most.
const lookEvery = time.Second

// Config is what Open needs. An empty path is a file that there is none of. Cert and Key go together.
type Config struct {
	Cert, Key string // a certificate, with those between it and its authority, and its key
	CA        string // certificates of the authorities that are trusted

	Name    string // in logs and metrics: "server", or "backend" for that which backends are shown
	Logger  *slog.Logger
	Metrics prometheus.Registerer // nil for nowhere
}

// Material is what the files had at one time. It is never changed.
type Material struct {
	Pair *tls.Certificate // nil without a file
	Pool *x509.CertPool   // nil without a file: for a client, that is the system's authorities
}

// Source has the newest material. Nothing runs by itself: the files are looked at when the material is asked for, which
// is at each handshake, once a second at most. Files that cannot be used change nothing. Its methods may be called
// concurrently.
type Source struct {
	config  Config
	metrics *metrics
	now     atomic.Pointer[Material]
	next    atomic.Int64 // when to look at the files again, in nanoseconds since began
	began   time.Time

	mu     sync.Mutex
	seen   []fs.FileInfo // guarded by mu: of the files when they were last read
	broken bool          // guarded by mu: they could not be used then
}

// Open reads the files. It fails if they cannot be used.
func Open(c Config) (*Source, error) {
	s := &Source{config: c, began: time.Now()}
	material, seen, err := s.read()
	if err != nil {
		return nil, err
	}
	s.seen = seen
	s.now.Store(material)
	s.next.Store(int64(lookEvery))
	s.metrics, err = newMetrics(s)
	return s, err
}

// Now returns the newest material that can be used.
func (s *Source) Now() *Material {
	due := s.next.Load()
	if since := int64(time.Since(s.began)); since >= due && s.next.CompareAndSwap(due, since+int64(lookEvery)) {
		s.look()
	}
	return s.now.Load()
}

// Configs returns a function that returns the TLS configuration for the newest material. It is made once for each
// material, so that it can keep what belongs together: a client cannot resume a session that began with other files.
func (s *Source) Configs(of func(*Material) *tls.Config) func() *tls.Config {
	type made struct {
		from   *Material
		config *tls.Config
	}
	var last atomic.Pointer[made]
	return func() *tls.Config {
		now := s.Now()
		if m := last.Load(); m != nil && m.from == now {
			return m.config
		}
		m := &made{now, of(now)}
		last.Store(m)
		return m.config
	}
}

// look reads the files if they have changed. Those that could not be used are read each time: they may have been
// written just then, and a file system's clock is coarse.
func (s *Source) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seen, err := s.stat(); err == nil && !s.broken && same(seen, s.seen) {
		return
	}
	material, seen, err := s.read()
	if err != nil {
		s.metrics.failed.Inc()
		if !s.broken {
			s.config.Logger.Error("the TLS files have changed and cannot be used; what was read before is used on", "certificate", s.config.Name, "error", err)
		}
		s.broken = true
		return
	}
	s.metrics.read.Inc()
	s.seen, s.broken = seen, false
	s.now.Store(material)
	attributes := []any{"certificate", s.config.Name}
	if material.Pair != nil {
		attributes = append(attributes, "not_after", notAfter(material.Pair))
	}
	s.config.Logger.Info("the TLS files were read again", attributes...)
}

// read reads all files. What it says of them is from before, so that a change meanwhile shows the next time.
func (s *Source) read() (*Material, []fs.FileInfo, error) {
	seen, err := s.stat()
	if err != nil {
		return nil, nil, err
	}
	m := &Material{}
	if s.config.Cert != "" {
		pair, err := tls.LoadX509KeyPair(s.config.Cert, s.config.Key)
		if err != nil {
			return nil, nil, fmt.Errorf("reading the certificate %s and its key %s: %w", s.config.Cert, s.config.Key, err)
		}
		m.Pair = &pair
	}
	if s.config.CA != "" {
		if m.Pool, err = readPool(s.config.CA); err != nil {
			return nil, nil, err
		}
	}
	return m, seen, nil
}

func readPool(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("reading the authorities: %s: %w", path, errNoCertificate)
	}
	return pool, nil
}

var errNoCertificate = errors.New("there is no certificate in PEM in it")

// stat looks at the files, and not at links to them: Kubernetes changes a link when it has written all files anew.
func (s *Source) stat() (infos []fs.FileInfo, err error) {
	for _, path := range []string{s.config.Cert, s.config.Key, s.config.CA} {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// same says whether files are as they were.
func same(a, b []fs.FileInfo) bool {
	for i := range a {
		if !os.SameFile(a[i], b[i]) || a[i].Size() != b[i].Size() || !a[i].ModTime().Equal(b[i].ModTime()) {
			return false
		}
	}
	return true
}

// notAfter is when the certificate ends, or one between it and its authority if that is sooner.
func notAfter(pair *tls.Certificate) time.Time {
	end := pair.Leaf.NotAfter
	for _, der := range pair.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil && c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}
