package frontend

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"sync/atomic"
	"time"
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
		ErrorLog: slog.NewLogLogger(f.log.Handler(), slog.LevelDebug),
	}
	if f.prefix != "" {
		p.ModifyResponse = f.prefixLinks
	}
	return p
}

// forward has a backend answer a request.
func (f *Frontend) forward(w http.ResponseWriter, r *http.Request) {
	to := &patientWriter{ResponseWriter: w, control: http.NewResponseController(w), limit: f.limits.Client}
	if r.ContentLength != 0 && r.Body != nil {
		body := &requestBody{from: r.Body, control: to.control, limit: f.limits.Client}
		defer body.over.Store(true)
		if err := body.hold(r); err != nil {
			f.fail(to, r, &failure{invalid, incompleteBody, err})
			return
		}
		r = r.WithContext(r.Context()) // a copy, because the server's request must not be changed
		r.Body = body
	}
	f.proxy.ServeHTTP(to, r)
	to.allow() // for what net/http still has to write
}

// rewrite makes the request for a backend from that of the client. ReverseProxy has taken out the hop-by-hop headers,
// and X-Forwarded-* and Forwarded: what a client says of itself is not passed on, and X-Forwarded-* say what is known
// here. Host is the backend's own.
func rewrite(p *httputil.ProxyRequest) {
	p.SetXForwarded()
	p.Out.Host = ""
	p.Out.URL.RawQuery = p.In.URL.RawQuery // also a malformed one: the backend says what is wrong with it
	p.Out.Header.Del("Connection")         // the API has nothing to upgrade to
	p.Out.Header.Del("Upgrade")
	// Whether a page may ask is decided before: to a backend, whose host is another, every page is one of another site.
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

// prefixLinks makes the paths in Link headers those that the client sees.
func (f *Frontend) prefixLinks(r *http.Response) error {
	for i, link := range r.Header["Link"] {
		r.Header["Link"][i] = strings.ReplaceAll(link, "</v1/", "<"+f.prefix+"/v1/")
	}
	return nil
}

// smallBody is how many bytes a request's body may have to be read before the request is sent. Header and body then go
// out in one piece, and can be sent again; and a backend does not wait for a client. Larger ones are streamed.
const smallBody = 4 << 10

// incompleteBody is what a client is told that has not sent a body to its end.
const incompleteBody = "the request's body did not arrive whole, or too slowly"

// requestBody is a request's body. It knows whether it can still be sent from its beginning, and outlives the attempts
// to send it, so closing it does nothing.
type requestBody struct {
	from    io.Reader
	control *http.ResponseController
	limit   time.Duration
	held    []byte      // all of it, if it is small
	touched atomic.Bool // something of it has been read
	failed  atomic.Bool // the client has not sent it to its end, or not in time
	over    atomic.Bool // the handler has returned, and the body is net/http's again
}

// hold reads the body of a request if it is small, unless the client waits for a backend to ask for it.
func (b *requestBody) hold(r *http.Request) error {
	if r.ContentLength < 0 || r.ContentLength > smallBody || len(r.Header["Expect"]) > 0 {
		return nil
	}
	b.held = make([]byte, r.ContentLength)
	_, err := io.ReadFull(b, b.held)
	return err
}

// Read waits for the client for so long as it may be silent. net/http takes the deadline back after the body.
func (b *requestBody) Read(p []byte) (int, error) {
	if b.over.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	b.touched.Store(true)
	_ = b.control.SetReadDeadline(time.Now().Add(b.limit)) // what knows no deadlines is not a connection
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
	case b.held != nil:
		return io.NopCloser(bytes.NewReader(b.held)), nil // which http.Transport knows to be in memory
	case b.touched.Load():
		return nil, errTouched
	}
	return b, nil
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
