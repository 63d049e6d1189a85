package httpserve

import (
	"net/http"
	"time"
)

// Handler puts around a handler what every request needs: headers for browsers, and limits on the time that its body
// may take, bodyTime in all. Serve does this. It is exported for tests that have servers of their own.
func Handler(next http.Handler, bodyTime time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := r.Context().Value(connKey{}).(*conn)
		setDefaults(w.Header())
		if c != nil && c.state != nil {
			r.TLS = c.state // net/http does not know of it
		}
		switch {
		case r.ProtoMajor == 2:
			serveStream(next, w, r, c, bodyTime)
		case c.endHeader(r):
			refuseAmbiguous(w)
		case r.Body == nil || r.Body == http.NoBody:
			next.ServeHTTP(w, r)
		default:
			serveBody(next, w, r, c, bodyTime)
		}
	})
}

// exchange is what a request with a body needs, in one allocation.
type exchange struct {
	request http.Request
	body    body
	writer  bodyWriter
}

// serveBody serves a request that has a body. net/http would read much of a body that the handler has not read before it
// sends the answer, however long that takes (golang/go#33269). Here the answer goes first. The rest of the body is then
// read so that the connection can be used again, or when it is closed.
func serveBody(next http.Handler, w http.ResponseWriter, r *http.Request, c *conn, bodyTime time.Duration) {
	control := http.NewResponseController(w)
	_ = control.EnableFullDuplex() // what does not know that is not a connection
	var e exchange
	e.body = body{from: r.Body, control: control, began: time.Now(), limit: bodyTime, length: r.ContentLength}
	e.writer = bodyWriter{ResponseWriter: w, body: &e.body, expects: len(r.Header["Expect"]) > 0}
	e.request = *r // the server's own must not be changed
	e.request.Body = &e.body
	returned := false
	defer func() {
		if !returned { // it panics: there is no answer, and nothing to wait for
			e.body.finish(false)
			c.endReading(false)
		}
	}()
	next.ServeHTTP(&e.writer, &e.request)
	returned = true
	if e.body.ended.Load() {
		return
	}
	_ = e.writer.FlushError() // when it fails the client is gone
	if !e.body.finish(!e.writer.closes) {
		c.endReading(true)
	}
}
