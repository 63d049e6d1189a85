package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
)

// door is a proxy before a server that can treat requests as the worst proxies do. A browser meets the server through it.
type door struct {
	url   string
	treat atomic.Pointer[treatment]
	cut   func() // ends all connections
}

// treatment handles a request itself and says so, or leaves it to the server.
type treatment func(w http.ResponseWriter, r *http.Request, server http.Handler) (handled bool)

// startDoor starts a door to a server. It ends with the test.
func startDoor(t testing.TB, server string) *door {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	onward := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:    transport,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	d := &door{}
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if treat := d.treat.Load(); treat == nil || !(*treat)(w, r, onward) {
			onward.ServeHTTP(w, r)
		}
	}))
	d.url, d.cut = listener.URL, listener.CloseClientConnections
	t.Cleanup(func() {
		listener.CloseClientConnections()
		listener.Close()
		transport.CloseIdleConnections()
	})
	return d
}

func (d *door) set(treat treatment) { d.treat.Store(&treat) }
func (d *door) open()               { d.treat.Store(nil) }
