package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	maxAnswer   = 64 << 20         // bytes of one answer; a page has about 8 MiB of bodies
	callTimeout = 30 * time.Second // for one call, besides the wait that it asks for
	waitFor     = 10 * time.Second // what Prefer: wait asks for
)

// errProtocol is in the chain of the error that an answer gives which is not the API's.
var errProtocol = errors.New("not an answer of Drainmark's API")

// client makes calls. It may be used by many goroutines.
type client struct {
	http *http.Client
	base string // without a slash at its end
}

func newClient(base string, connections int) *client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns = 0 // no limit but the one below
	transport.MaxIdleConnsPerHost = connections
	return &client{http: &http.Client{Transport: transport}, base: strings.TrimRight(base, "/")}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// call is one request.
type call struct {
	method      string
	path        string
	contentType string
	body        []byte
	key         string // Idempotency-Key, or ""
	receipt     string // Drainmark-Receipt, or ""
	wait        bool   // Prefer: wait
}

// do makes one call, reads its whole answer, and decodes it into into. An answer of 400 and above is a *problem. Any
// other error leaves open whether the call was done, unless nothingDone says so.
func (c *client) do(ctx context.Context, what call, into any) error {
	limit := callTimeout
	if what.wait {
		limit += waitFor
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, what.method, c.base+what.path, bytes.NewReader(what.body))
	if err != nil {
		return fmt.Errorf("making a request: %w", err)
	}
	what.setHeaders(request.Header)
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := readAnswer(response)
	if err != nil {
		return fmt.Errorf("reading the answer to %s %s: %w", what.method, what.path, err)
	}
	if response.StatusCode >= 400 {
		return problemOf(response, body)
	}
	if err := json.Unmarshal(body, into); err != nil || response.StatusCode < 200 || response.StatusCode >= 300 {
		return fmt.Errorf("%s %s: status %d, %d bytes of %q: %w", what.method, what.path, response.StatusCode, len(body),
			response.Header.Get("Content-Type"), errProtocol)
	}
	return nil
}

func (what *call) setHeaders(header http.Header) {
	for _, h := range []struct{ name, value string }{
		{"Content-Type", what.contentType}, {"Idempotency-Key", what.key}, {"Drainmark-Receipt", what.receipt},
	} {
		if h.value != "" {
			header.Set(h.name, h.value)
		}
	}
	if what.wait {
		header.Set("Prefer", "wait="+strconv.Itoa(int(waitFor/time.Second)))
	}
}

func readAnswer(response *http.Response) ([]byte, error) {
	var buffer bytes.Buffer
	if n := response.ContentLength; n > 0 && n <= maxAnswer {
		buffer.Grow(int(n) + bytes.MinRead)
	}
	if _, err := buffer.ReadFrom(io.LimitReader(response.Body, maxAnswer+1)); err != nil {
		return nil, err
	}
	if buffer.Len() > maxAnswer {
		return nil, fmt.Errorf("more than %d bytes, the limit: %w", maxAnswer, errProtocol)
	}
	return buffer.Bytes(), nil
}

// problem is an answer that says no.
type problem struct {
	Status     int
	Type       string `json:"type"`
	Title      string `json:"title"`
	Detail     string `json:"detail"`
	retryAfter time.Duration
}

func problemOf(response *http.Response, body []byte) *problem {
	p := &problem{}
	if json.Unmarshal(body, p) != nil {
		*p = problem{} // somebody else's answer, of a proxy for instance: the status says enough
	}
	p.Status = response.StatusCode
	if n, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && n > 0 {
		p.retryAfter = time.Duration(min(n, 60)) * time.Second
	}
	return p
}

func (p *problem) Error() string {
	text := fmt.Sprintf("%d %s", p.Status, http.StatusText(p.Status))
	for _, part := range []string{p.Title, p.Detail} {
		if part != "" {
			text += fmt.Sprintf(": %.300s", part)
		}
	}
	return text
}

// statusOf returns the status of the answer that an error is, 0 for none.
func statusOf(err error) int {
	var p *problem
	if errors.As(err, &p) {
		return p.Status
	}
	return 0
}

// nothingDone says whether a failed call was certainly not done: there was no connection, or the answer says so. A
// status that a proxy may have made up says nothing.
func nothingDone(err error) bool {
	var p *problem
	if !errors.As(err, &p) {
		var op *net.OpError
		return errors.As(err, &op) && op.Op == "dial"
	}
	switch {
	case p.Status == http.StatusServiceUnavailable:
		kind, ours := strings.CutPrefix(p.Type, "urn:drainmark:problem:")
		return ours && (kind == "unavailable" || kind == "backlog-full" || kind == "too-many")
	case p.Status == http.StatusRequestTimeout, p.Status == 499:
		return false
	}
	return p.Status < 500
}

// worthRetrying says whether the same call may succeed later.
func worthRetrying(err error) bool {
	if errors.Is(err, errProtocol) {
		return false
	}
	switch status := statusOf(err); status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusPreconditionFailed:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false
	default:
		return status == 0 || status >= 500
	}
}
