package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	receiptHeader = "Drainmark-Receipt"
	backendHeader = "Drainmark-Backend"
	headerPrefix  = "Drainmark-Header-"
)

// call is what a request says. It can be made any number of times.
type call struct {
	method      string
	path        string // escaped, with its query
	body        []byte
	contentType string
	key         string            // Idempotency-Key
	headers     map[string]string // Drainmark-Header-…: of the message
	receipts    Receipt           // Drainmark-Receipt
	ifNoneMatch string            // then 304 is an answer too
	lastEventID string            // then an event stream is wanted
	wait        time.Duration     // Prefer: wait
	repeatable  bool              // made twice it does what it does once
}

// shown is the path for people.
func (what *call) shown() string {
	path, _, _ := strings.Cut(what.path, "?")
	return path
}

// answer is what was answered, whole. A call that succeeds has one of 2xx, or of 304 if it was asked for.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func receiptIn(header http.Header) Receipt { return Receipt(header.Get(receiptHeader)) }

// do makes a call, again and again as Retry says. Its error says of all attempts together whether nothing was done.
func (c *Client) do(ctx context.Context, what *call) (answer, error) {
	start, pace := time.Now(), c.retry.pace()
	nothing, receipt := true, Receipt("")
	for attempt := 1; ; attempt++ {
		a, err := c.attempt(ctx, what)
		if err == nil {
			return a, nil
		}
		nothing = nothing && err.nothing
		if err.Receipt == "" {
			err.Receipt = receipt
		}
		receipt = err.Receipt
		err.nothing, err.Attempts = nothing, attempt-1+err.Attempts
		if !err.again || !nothing && !what.repeatable || ctx.Err() != nil {
			return answer{}, err
		}
		next := pace.next(err.RetryAfter)
		if !c.retry.allows(attempt, time.Since(start), next) {
			return answer{}, err
		}
		if err.over = pause(ctx, next); err.over != nil {
			return answer{}, err
		}
	}
}

// attempt makes one request and reads its whole answer.
func (c *Client) attempt(ctx context.Context, what *call) (answer, *Error) {
	if ctx.Err() != nil {
		return answer{}, what.unsent("", context.Cause(ctx))
	}
	start := time.Now()
	ctx, cancel := c.within(ctx, c.timeout+what.wait)
	defer cancel()
	a, err := c.exchange(ctx, what)
	c.observed(what, start, a.status, err)
	return a, err
}

// within gives a request its time.
func (c *Client) within(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, timeoutError(limit))
}

// timeoutError is why a request was given up that took too long.
type timeoutError time.Duration

func (e timeoutError) Error() string {
	return fmt.Sprintf("not answered within %v, the limit", time.Duration(e))
}
func (e timeoutError) Unwrap() error { return context.DeadlineExceeded }

// observed calls the observer, if any, with a request that was made.
func (c *Client) observed(what *call, start time.Time, status int, err *Error) {
	if c.observe == nil || err != nil && err.Attempts == 0 {
		return
	}
	attempt := Attempt{Method: what.method, Path: what.shown(), Start: start, End: time.Now(), Status: status}
	if err != nil {
		attempt.Err = err
	}
	c.observe(attempt)
}

func (c *Client) exchange(ctx context.Context, what *call) (answer, *Error) {
	response, failure := c.open(ctx, what)
	if failure != nil {
		return answer{}, failure
	}
	defer response.Body.Close()
	a := answer{status: response.StatusCode, header: response.Header}
	var err error
	if a.body, err = c.readWhole(response); err != nil {
		failure = what.failed(fmt.Errorf("reading the answer: %w", causeOf(ctx, err)))
		failure.Status, failure.Receipt, failure.nothing = a.status, receiptIn(a.header), false
		return a, failure
	}
	switch {
	case len(a.body) > c.limit:
		return a, what.misunderstood(&a, "the answer has more than %d bytes, the limit", c.limit)
	case a.status >= 400:
		return a, what.refused(&a)
	case a.status >= 300 && (a.status != http.StatusNotModified || what.ifNoneMatch == ""):
		return a, what.misunderstood(&a, "a redirection, which is not followed")
	}
	return a, nil
}

// open makes one request. If its token is refused and another one has taken its place meanwhile, it makes another. The
// answer's body is the caller's to close.
func (c *Client) open(ctx context.Context, what *call) (*http.Response, *Error) {
	token, err := c.tokenFor("")
	if err != nil {
		return nil, what.unsent(Unauthenticated, err)
	}
	response, failure := c.send(ctx, what, token)
	if failure != nil || token == "" || !refusesToken(response) {
		return response, failure
	}
	next, err := c.tokenFor(token)
	if err != nil || next == token {
		return response, nil // that it was refused says more
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxRefusal)) // so that the connection is used again
	_ = response.Body.Close()
	return c.send(ctx, what, next)
}

// send makes a request that shows a token, unless that is "".
func (c *Client) send(ctx context.Context, what *call, token string) (*http.Response, *Error) {
	request, err := http.NewRequestWithContext(ctx, what.method, c.base+what.path, bytes.NewReader(what.body))
	if err != nil {
		return nil, what.unsent(Invalid, fmt.Errorf("%.40q cannot be a request's path", what.shown()))
	}
	if err := what.setHeaders(request.Header); err != nil {
		return nil, what.unsent(Invalid, err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	if c.trace != nil {
		c.trace(ctx, request.Header)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, what.failed(causeOf(ctx, err))
	}
	return response, nil
}

// causeOf returns why the request's context ended, if that is what an error is about.
func causeOf(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return context.Cause(ctx)
}

func (what *call) setHeaders(header http.Header) error {
	values := [...]struct{ name, value string }{
		{"Content-Type", what.contentType},
		// In lower case, so that net/http does not find it: it would take it as leave to send the request again.
		{"idempotency-key", what.key},
		{receiptHeader, string(what.receipts)},
		{"If-None-Match", what.ifNoneMatch},
		{"Last-Event-Id", what.lastEventID},
	}
	for _, v := range values {
		if v.value == "" {
			continue
		}
		if !isPrintable(v.value) {
			return fmt.Errorf("%s %.40q: it must be printable ASCII", v.name, v.value)
		}
		header[v.name] = []string{v.value}
	}
	for name, value := range what.headers {
		header.Add(headerPrefix+name, value) // two names that differ in case are for the server to refuse
	}
	if what.lastEventID != "" {
		header["Accept"] = []string{"text/event-stream"}
	}
	if what.wait > 0 {
		seconds := (what.wait + time.Second - 1) / time.Second // the API knows whole ones only
		header["Prefer"] = []string{"wait=" + strconv.FormatInt(int64(seconds), 10)}
	}
	return nil
}

// isPrintable says whether a text is of printable ASCII.
func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// readWhole reads an answer, or at least one byte more than the limit.
func (c *Client) readWhole(response *http.Response) ([]byte, error) {
	var buffer bytes.Buffer
	if n := response.ContentLength; n > 0 && n <= int64(c.limit) {
		buffer.Grow(int(n) + bytes.MinRead)
	}
	_, err := buffer.ReadFrom(io.LimitReader(response.Body, int64(c.limit)+1))
	return buffer.Bytes(), err
}

// ask makes a call and decodes its answer.
func (c *Client) ask(ctx context.Context, what *call, into any) (answer, error) {
	a, err := c.do(ctx, what)
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(a.body, into); err != nil {
		return a, what.undecodable(&a, err)
	}
	return a, nil
}

// undecodable is the error of an answer that is not the JSON that it should be.
func (what *call) undecodable(a *answer, err error) *Error {
	return what.misunderstood(a, "%d bytes of %q: %.100s", len(a.body), a.header.Get("Content-Type"), err)
}
