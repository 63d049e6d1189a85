package httpserve

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A request's body must come at a rate of bodyRate, after bodyGrace for the network and a client's start. So a client
// that says that a body follows, and sends nothing, is refused soon, and one that trickles is, too.
const (
	bodyGrace = 2 * time.Second
	bodyRate  = 1 << 10 // bytes a second
)

// maxLeftover is how many bytes of a body that no handler has read are read so that the connection can be used again.
const maxLeftover = 64 << 10

// dropBuffer is how many bytes that nobody wants are read at once.
const dropBuffer = 16 << 10

var dropBuffers = sync.Pool{New: func() any { return new([dropBuffer]byte) }}

// body is a request's body. It bounds how long reading may take, and knows whether it was read to its end. Its methods
// may be called concurrently: a proxy may still read from another goroutine when it has an answer already.
type body struct {
	from    io.ReadCloser
	control *http.ResponseController
	began   time.Time
	limit   time.Duration // for the whole body
	length  int64         // below 0 if it is not known

	received atomic.Int64
	ended    atomic.Bool // read to its end

	mu   sync.Mutex // held while reading
	over bool       // the request has ended, and the connection is no longer this body's
}

// Read reads what has come, or waits for it as long as the body's rate allows.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.read(p)
}

func (b *body) read(p []byte) (int, error) {
	if b.ended.Load() {
		return 0, io.EOF
	}
	// A writer without deadlines is not a connection. net/http resets the deadline at the end of the body.
	_ = b.control.SetReadDeadline(b.deadline())
	n, err := b.from.Read(p)
	b.received.Add(int64(n))
	switch {
	case err == io.EOF:
		b.ended.Store(true)
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = b.tooSlow()
	}
	return n, err
}

// deadline returns until when the next bytes must have come.
func (b *body) deadline() time.Time {
	earned := time.Duration(min(b.received.Load(), 1<<30)) * time.Second / bodyRate
	return b.began.Add(min(b.limit, bodyGrace+earned))
}

func (b *body) tooSlow() error {
	return fmt.Errorf("it came too slowly: %d bytes in %v; the limit is %v, and %d bytes a second after the first %v: %w",
		b.received.Load(), time.Since(b.began).Round(10*time.Millisecond), b.limit, bodyRate, bodyGrace, os.ErrDeadlineExceeded)
}

// Close does nothing: finish reads the rest of the body, or not.
func (b *body) Close() error { return nil }

// large says whether too much is left of the body, as far as it is known, to read it for nothing.
func (b *body) large() bool {
	return !b.ended.Load() && (b.length < 0 || b.length-b.received.Load() > maxLeftover)
}

// finish ends the body. If drop is set it reads what is left. It says whether the body came to its end, so that the
// connection can be used again. The answer has been sent before.
func (b *body) finish(drop bool) bool {
	if b.ended.Load() {
		return true
	}
	if !drop {
		_ = b.control.SetReadDeadline(time.Unix(1, 0)) // a handler that still reads must stop
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	if !drop {
		return false
	}
	buffer := dropBuffers.Get().(*[dropBuffer]byte)
	defer dropBuffers.Put(buffer)
	for {
		if _, err := b.read(buffer[:]); err != nil {
			return b.ended.Load()
		}
	}
}

// bodyWriter is the ResponseWriter of a request that has a body. It says beforehand that the connection ends with the
// answer, if the body will not be read to its end.
type bodyWriter struct {
	http.ResponseWriter
	body    *body
	expects bool // the client waits for a word before it sends the body
	begun   bool
	closes  bool // the rest of the body is not read
}

func (w *bodyWriter) WriteHeader(status int) {
	if !w.begun && status >= http.StatusOK {
		w.begun = true
		if w.closes = w.body.large() || w.expects && !w.body.ended.Load(); w.closes {
			w.Header().Set("Connection", "close")
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *bodyWriter) Write(p []byte) (int, error) {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// FlushError is for http.ResponseController.
func (w *bodyWriter) FlushError() error {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	return w.body.control.Flush()
}

// Unwrap is for http.ResponseController.
func (w *bodyWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
