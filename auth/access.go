package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drainmark/drainmark/internal/smallfile"
)

// reloadEvery is how often the file of principals is looked at, at most.
const reloadEvery = time.Second

// File is a file of principals, which is read again when it changes. Its methods may be called concurrently.
type File struct {
	path   string
	logger *slog.Logger
	now    func() time.Time
	access atomic.Pointer[access]
	next   atomic.Int64 // when to look at it again, in nanoseconds since 1970

	mu   sync.Mutex // held while the file is being read
	text []byte     // what was read last, good or bad
}

// Load reads a file of principals. The error says where it is wrong.
func Load(path string, logger *slog.Logger) (*File, error) {
	f := &File{path: path, logger: logger, now: time.Now}
	text, err := smallfile.Read(path, maxFile)
	if err != nil {
		return nil, err
	}
	a, err := parse(text, nil, logger)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f.text = text
	f.access.Store(a)
	f.next.Store(f.now().Add(reloadEvery).UnixNano())
	return f, nil
}

// current returns what the file says now. A file that is wrong, or gone, changes nothing, and is told of once.
func (f *File) current() *access {
	now := f.now()
	if now.UnixNano() >= f.next.Load() && f.mu.TryLock() {
		f.next.Store(now.Add(reloadEvery).UnixNano())
		f.reload()
		f.mu.Unlock()
	}
	return f.access.Load()
}

func (f *File) reload() {
	text, err := smallfile.Read(f.path, maxFile)
	if err != nil {
		text = []byte(err.Error()) // to tell of it once
	}
	if bytes.Equal(text, f.text) {
		return
	}
	f.text = text
	var a *access
	if err == nil {
		a, err = parse(text, f.access.Load(), f.logger)
	}
	if err != nil {
		f.logger.Error("the file of principals cannot be used; the last good one stays in force", "part", "audit", "file", f.path, "error", err)
		return
	}
	f.access.Store(a)
	f.logger.Info("the file of principals was read again", "part", "audit", "file", f.path)
}

// Authenticate is an Authenticator. A request that shows a token is that principal's, or nobody's. Otherwise the
// certificate of its connection counts, and otherwise it is anonymous.
func (f *File) Authenticate(r *http.Request) (Principal, error) {
	a := f.current()
	given := r.Header["Authorization"]
	switch {
	case len(given) > 1:
		return Principal{}, &refusal{ErrUnknown, "there are several Authorization headers"}
	case len(given) == 1:
		return a.bearer(r.Context(), given[0], f.now())
	}
	if shown := certificateOf(r); shown != nil {
		if p := a.ofCertificate(shown); p != nil {
			return *p, nil
		}
	}
	if a.anonymous != nil {
		return *a.anonymous, nil
	}
	return Principal{}, &refusal{ErrUnknown, "this needs a token: Authorization: Bearer TOKEN, or a client certificate that is known"}
}

// bearer returns whose a token is: Drainmark's own are in the file, and all others are of its issuers.
func (a *access) bearer(ctx context.Context, header string, now time.Time) (Principal, error) {
	scheme, text, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return Principal{}, &refusal{ErrUnknown, "the Authorization header must be: Bearer TOKEN"}
	}
	text = strings.TrimSpace(text)
	if len(a.issuers) > 0 && !strings.HasPrefix(text, tokenPrefix) {
		return a.signed(ctx, text, now)
	}
	t, ok := a.tokens[sha256.Sum256([]byte(text))]
	if !ok || !t.expires.IsZero() && now.After(t.expires) {
		return Principal{}, &refusal{ErrUnknown, "the token is not known, or has expired"}
	}
	return *t.of, nil
}

// certificateOf returns the client's certificate if the server has verified it.
func certificateOf(r *http.Request) *x509.Certificate {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return nil
	}
	return r.TLS.VerifiedChains[0][0]
}

// ofCertificate returns whose a certificate is: by a URI (SPIFFE's, say), or if it has none, by its common name.
func (a *access) ofCertificate(c *x509.Certificate) *Principal {
	if len(c.URIs) > 0 {
		for _, uri := range c.URIs {
			if p := a.certificates[uri.String()]; p != nil {
				return p
			}
		}
		return nil
	}
	return a.certificates[c.Subject.CommonName]
}
