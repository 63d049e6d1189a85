package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Tail follows a log behind a position, for as long as ctx lasts: first what is there, then each message as soon as it
// is persisted. 0 is the beginning, and a Page's LastPosition is the end. The log need not exist yet.
//
// When its connection breaks, or is silent for 45 seconds, it opens another one where it was, whatever Config.Retry
// says, and waits longer each time that brings nothing. So it gives each message once and in order. If positions are
// left out it asks whether they were cleared. If not, or if they go back, it ends with an error that has ErrPositions.
// Other errors that end it are those of ctx, and answers that will stay the same. An error is the last thing that it
// gives, unless it is a *DecodeError, as with All.
//
// Messages come only as fast as they are taken: the next one is read when the loop's body has returned.
func (c *Client) Tail(ctx context.Context, log string, after uint64) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		t := tail{client: c, log: log, last: after, yield: yield, pace: c.retry.pace()}
		for {
			before := t.last
			err := t.stream(ctx)
			switch {
			case t.stopped:
				return
			case ctx.Err() != nil || !err.again:
				yield(Message{}, err)
				return
			case t.last > before:
				t.pace.reset()
			}
			if err.over = pause(ctx, t.pace.next(err.RetryAfter)); err.over != nil {
				yield(Message{}, err)
				return
			}
		}
	}
}

// tail is a log that is followed.
type tail struct {
	client  *Client
	log     string
	last    uint64 // the position behind which the next stream goes on
	yield   func(Message, error) bool
	stopped bool // the loop's body wants no more
	pace    pace
}

// errSilent ends a stream on which nothing has come, not even a comment, for as long as Client.silence.
var errSilent = errors.New("the event stream was silent for too long")

// stream opens one event stream and gives its messages, until it ends. Its error says why that was.
func (t *tail) stream(ctx context.Context) (failure *Error) {
	what := call{
		method: http.MethodGet, path: "/v1/logs/" + url.PathEscape(t.log) + "/events",
		lastEventID: strconv.FormatUint(t.last, 10), repeatable: true,
	}
	if ctx.Err() != nil {
		return what.unsent("", context.Cause(ctx))
	}
	start, status := time.Now(), 0
	defer func() { t.client.observed(&what, start, status, failure) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(t.client.timeout, func() { cancel(errSilent) })
	defer silence.Stop()
	response, failure := t.client.open(ctx, &what)
	if failure != nil {
		return failure
	}
	defer response.Body.Close()
	body := &watched{from: response.Body, timer: silence, limit: t.client.silence}
	if status = response.StatusCode; status != http.StatusOK {
		return t.client.noStream(&what, response, body)
	}
	if given := response.Header.Get("Content-Type"); !strings.HasPrefix(given, "text/event-stream") {
		return what.misunderstood(&answer{status: status, header: response.Header}, "an event stream of the type %.80q", given)
	}
	if err := t.events(ctx, newEventReader(body, t.client.limit)); !t.stopped {
		return t.ended(ctx, &what, status, err)
	}
	return nil
}

// noStream is the error of an answer that is not an event stream.
func (c *Client) noStream(what *call, response *http.Response, body io.Reader) *Error {
	a := answer{status: response.StatusCode, header: response.Header}
	a.body, _ = io.ReadAll(io.LimitReader(body, maxRefusal)) // cut off it is nobody's problem: the status says enough
	if a.status < 400 {
		return what.misunderstood(&a, "not an event stream")
	}
	return what.refused(&a)
}

// ended makes the error of a stream that has ended. Most are as good as a broken connection: the next stream goes on.
func (t *tail) ended(ctx context.Context, what *call, status int, err error) *Error {
	var failed *Error
	if errors.As(err, &failed) {
		return failed
	}
	failed = what.failed(fmt.Errorf("behind position %d: %w", t.last, causeOf(ctx, err)))
	failed.Status = status
	failed.again = !errors.Is(err, ErrProtocol) && !errors.Is(err, ErrPositions)
	return failed
}

// events gives the messages of a stream. It returns nil only when the loop's body wants no more.
func (t *tail) events(ctx context.Context, from *eventReader) error {
	for {
		e, err := from.next()
		if from.retry > 0 {
			t.pace.most = max(from.retry, t.pace.least)
		}
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx) // events that have come already are no longer given
		}
		if err != nil {
			return err
		}
		if e.name != "message" {
			// It is of a later version, and has its place all the same (V-3 of docs/protocol.md).
			if at, err := strconv.ParseUint(e.id, 10, 64); err == nil {
				t.last = max(t.last, at)
			}
			continue
		}
		m, err := decodeMessage(e.data)
		if err != nil || e.id != "" && e.id != strconv.FormatUint(m.Position, 10) {
			return fmt.Errorf("the event %.20q has %d bytes, position %d (%v): %w", e.id, len(e.data), m.Position, err, ErrProtocol)
		}
		if m.Position != t.last+1 {
			if err := t.checkSkip(ctx, m.Position); err != nil {
				return err
			}
		}
		t.last = m.Position
		m = t.client.decode(ctx, t.log, m)
		if !t.yield(m, m.Err) {
			t.stopped = true
			return nil
		}
	}
}

// checkSkip says whether the messages between the last one and a position have been cleared. A state that has the
// message at the position has also what was cleared before it. One that is older says nothing: then the stream is
// ended, and the next one brings the message again.
func (t *tail) checkSkip(ctx context.Context, position uint64) error {
	if position <= t.last {
		return fmt.Errorf("the log goes on from %d with %d: %w", t.last, position, ErrPositions)
	}
	page, err := t.client.Messages(ctx, t.log, ReadOptions{After: position - 1, Limit: 1})
	switch {
	case KindOf(err) == NotFound:
		return errStale
	case err != nil:
		return err
	case page.LastPosition < position:
		return errStale
	case page.cleared() < position-1:
		return fmt.Errorf("the log goes on from %d with %d, and has been cleared through %d: %w", t.last, position, page.cleared(),
			ErrPositions)
	}
	return nil
}

// watched runs a timer while it is being read from, and not while what was read is being used.
type watched struct {
	from  io.Reader
	timer *time.Timer
	limit time.Duration
}

func (w *watched) Read(p []byte) (int, error) {
	w.timer.Reset(w.limit)
	n, err := w.from.Read(p)
	w.timer.Stop()
	return n, err
}
