package frontend

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drainmark/drainmark/internal/budget"
	"github.com/drainmark/drainmark/internal/httpserve"
	"github.com/drainmark/drainmark/internal/loglimit"
)

// copyBuffer is how many bytes of an answer are moved at once. Most pages are smaller.
const copyBuffer = 32 << 10

// buffers is a httputil.BufferPool. It keeps arrays, because a slice's header would be allocated with each Put.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if array, ok := b.pool.Get().(*[copyBuffer]byte); ok {
		return array[:]
	}
	return make([]byte, copyBuffer)
}

func (b *buffers) Put(buffer []byte) { b.pool.Put((*[copyBuffer]byte)(buffer)) }

// newProxy makes what streams a request to the pool and the answer back. It takes the hop-by-hop headers out on both
// ways, passes 1xx answers on, and flushes at once what has no known length, event streams above all.
func (f *Frontend) newProxy() *httputil.ReverseProxy {
	p := &httputil.ReverseProxy{
		Rewrite: rewrite, Transport: f.pool, BufferPool: &buffers{}, ErrorHandler: f.fail,
		ErrorLog:       log.New(loglimit.New(f.logger, slog.LevelWarn, "an answer of a backend was not passed on whole"), "", 0),
		ModifyResponse: f.adapt,
	}
	return p
}

// maxQuery is how many bytes a query may have. Backends take 64 KiB of header in all, to which something is added here.
const maxQuery = 32 << 10

// forward has a backend answer a request.
func (f *Frontend) forward(w http.ResponseWriter, r *http.Request) {
	r, span := f.tracer.Forward(r)
	if span == nil {
		f.pass(w, r)
		return
	}
	noted := &statusWriter{ResponseWriter: w}
	defer func() { span.Answered(noted.status) }()
	f.pass(noted, r)
}

// statusWriter notes the status of an answer, for its span.
type statusWriter struct {
	http.ResponseWriter
	status int // 0 until the answer has begun
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// pass has a backend answer a request.
func (f *Frontend) pass(w http.ResponseWriter, r *http.Request) {
	to := &patientWriter{ResponseWriter: w, control: http.NewResponseController(w), limit: f.limits.Client}
	if size := len(r.URL.RawQuery); size > maxQuery {
		f.fail(to, r, &failure{tooLong, fmt.Sprintf("the query is over %d bytes, the limit", maxQuery), fmt.Errorf("it has %d", size)})
		return
	}
	if r.ContentLength != 0 && r.Body != nil {
		body := &requestBody{from: r.Body, bodies: f.bodies}
		defer body.end()
		if err := body.hold(r); err != nil {
			f.fail(to, r, err)
			return
		}
		r = r.WithContext(r.Context()) // a copy, because the server's request must not be changed
		r.Body = body
	}
	f.proxy.ServeHTTP(to, r)
	to.allow() // for what net/http still has to write
}

// rewrite makes the request for a backend from that of the client. ReverseProxy has taken out the hop-by-hop headers,
// and X-Forwarded-* and Forwarded: a client's own values are not passed on, and X-Forwarded-* say what is known here.
// Host is the backend's own.
func rewrite(p *httputil.ProxyRequest) {
	p.SetXForwarded()
	p.Out.Host = ""
	p.Out.URL.RawQuery = p.In.URL.RawQuery // also a malformed one: the backend says what is wrong with it
	p.Out.Header.Del("Connection")         // the API has nothing to upgrade to
	p.Out.Header.Del("Upgrade")
	// It was decided before whether a page may ask: to a backend, whose host is another, every page is one of another
	// site.
	for _, name := range [...]string{"Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Sec-Fetch-User"} {
		delete(p.Out.Header, name)
	}
	// http.Transport sends requests with such a header again by itself, although they may have been received: a clear,
	// for which the API ignores it, would then take with it what was appended in between. It does not find it in
	// lower case, and to the backend that is the same header.
	for _, name := range [...]string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, ok := p.Out.Header[name]; ok {
			delete(p.Out.Header, name)
			p.Out.Header[strings.ToLower(name)] = values
		}
	}
	if body, ok := p.In.Body.(*requestBody); ok {
		p.Out.Body = body
		p.Out.GetBody = body.again // what each attempt sends: see pool.send
	}
}

// adapt makes the paths in Link headers those that the client sees, and leaves out what the server adds to every answer.
func (f *Frontend) adapt(r *http.Response) error {
	httpserve.DropDefaults(r.Header)
	if f.prefix == "" {
		return nil
	}
	for i, link := range r.Header["Link"] {
		r.Header["Link"][i] = strings.ReplaceAll(link, "</v1/", "<"+f.prefix+"/v1/")
	}
	return nil
}

// smallBody is how many bytes of a request's body are read before the request is sent. If that is the whole body,
// header and body go out in one piece, and can be sent again. Larger ones are streamed. Neither takes anything of a
// backend before the client has really begun to send.
const smallBody = 4 << 10

// streamed is how many bytes of memory a body costs that is streamed.
const streamed = 64 << 10

// incompleteBody is what a client is told that has not sent a body to its end.
const incompleteBody = "the request's body did not arrive whole, or too slowly"

// requestBody is a request's body. It knows whether it can still be sent from its beginning, and outlives the attempts
// to send it, so closing it does nothing. The server around the frontend bounds how long it may take to arrive.
type requestBody struct {
	from    io.Reader
	bodies  *budget.Budget // of the memory for all bodies
	taken   int64          // of the body
	held    []byte         // its beginning
	whole   bool           // held is the whole body
	touched atomic.Bool    // something behind its beginning has been read
	failed  atomic.Bool    // the client has not sent it to its end, or not in time
	over    atomic.Bool    // the handler has returned, and the body is net/http's again
}

// hold reads the beginning of a request's body, unless the client waits for a backend to ask for it.
func (b *requestBody) hold(r *http.Request) error {
	if len(r.Header["Expect"]) > 0 {
		return b.take(streamed)
	}
	size := smallBody
	if r.ContentLength > 0 && r.ContentLength < smallBody {
		size = int(r.ContentLength)
	}
	if err := b.take(int64(size)); err != nil {
		return err
	}
	b.held = make([]byte, size)
	n, err := io.ReadFull(b.from, b.held)
	b.held = b.held[:n]
	switch {
	case err == nil && int64(n) == r.ContentLength, r.ContentLength < 0 && (err == io.EOF || err == io.ErrUnexpectedEOF):
		b.whole = true
		return nil
	case err != nil:
		b.failed.Store(true)
		return &failure{invalid, incompleteBody, err}
	}
	return b.take(streamed)
}

// take takes memory for the body.
func (b *requestBody) take(n int64) error {
	if !b.bodies.Take(n) {
		return &failure{tooMany, "the requests under way hold as much of bodies as they may", errBodies}
	}
	b.taken += n
	return nil
}

// end gives back what the body has taken. Nobody reads it afterwards.
func (b *requestBody) end() {
	b.over.Store(true)
	b.bodies.Give(b.taken)
}

// Read reads what is behind the beginning.
func (b *requestBody) Read(p []byte) (int, error) {
	if b.over.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	b.touched.Store(true)
	n, err := b.from.Read(p)
	if err != nil && err != io.EOF {
		b.failed.Store(true)
	}
	return n, err
}

func (b *requestBody) Close() error { return nil }

// again returns the body for an attempt to send it, if it can be sent from its beginning. http.Transport asks too: it
// sends a request on another connection if it wrote nothing to the first one.
func (b *requestBody) again() (io.ReadCloser, error) {
	switch {
	case b.whole:
		return io.NopCloser(bytes.NewReader(b.held)), nil // which http.Transport knows to be in memory
	case b.touched.Load():
		return nil, errTouched
	}
	return io.NopCloser(io.MultiReader(bytes.NewReader(b.held), b)), nil
}

// patientWriter gives the client its time for each write of the answer.
type patientWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	limit   time.Duration
}

func (w *patientWriter) Write(p []byte) (int, error) {
	w.allow()
	return w.ResponseWriter.Write(p)
}

// allow gives the client its time from now on.
func (w *patientWriter) allow() {
	_ = w.control.SetWriteDeadline(time.Now().Add(w.limit)) // see requestBody.Read
}

// Unwrap is for http.ResponseController.
func (w *patientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
