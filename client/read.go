package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// ReadOptions says which page of a log is wanted.
type ReadOptions struct {
	After uint64 // the position behind which it begins, 0 for the beginning
	Limit int    // messages at most, 1 to 1,000 unless the server was told otherwise, 0 for the server's default, 100
	// Receipts, if it is not "", has the page come from a state that has its writes: see Merge. While the backend does
	// not have them yet it waits for at most Wait, and then says NotReached.
	Receipts Receipt
	Wait     time.Duration
	// IfNoneMatch is the ETag of an earlier answer: if the page is still the same, it is not sent again.
	IfNoneMatch string
}

// Page is a part of a log.
type Page struct {
	Messages     []Message
	LastPosition uint64 // of the newest message that there ever was
	Count        uint64 // how many messages the log has now: the newest ones
	// FirstPosition is that of the oldest message that there is, or of the next one if there is none. 0 from a server that does
	// not say.
	FirstPosition uint64
	ETag          string // for IfNoneMatch
	NotModified   bool   // it is the page that IfNoneMatch names (only ETag and Backend are set besides)
	Backend       string // the run of a backend that has answered, "" if it does not say
}

// Messages reads a page of a log. It may have fewer messages than the limit although there are more. A log that nobody
// has written to is NotFound. NotReached is not asked for again: it is an answer.
func (c *Client) Messages(ctx context.Context, log string, options ReadOptions) (Page, error) {
	path := messagesPath(log) + "?after=" + strconv.FormatUint(options.After, 10)
	if options.Limit != 0 {
		path += "&limit=" + strconv.Itoa(options.Limit)
	}
	what := call{
		method: http.MethodGet, path: path, receipts: options.Receipts, wait: options.Wait, ifNoneMatch: options.IfNoneMatch,
		repeatable: true,
	}
	a, err := c.do(ctx, &what)
	if err != nil {
		return Page{}, err
	}
	if a.status == http.StatusNotModified {
		return Page{ETag: a.header.Get("ETag"), NotModified: true, Backend: a.header.Get(backendHeader)}, nil
	}
	page, of, err := decodePage(a.body)
	if err != nil {
		return Page{}, what.undecodable(&a, err)
	}
	if of != log || page.Count > page.LastPosition {
		return Page{}, what.misunderstood(&a, "a page of the log %.40q, %d messages up to %d", of, page.Count, page.LastPosition)
	}
	for i := range page.Messages {
		page.Messages[i] = c.decode(ctx, log, page.Messages[i])
	}
	page.ETag, page.Backend = a.header.Get("ETag"), a.header.Get(backendHeader)
	return page, nil
}

// cleared returns the position up to which the log has been cleared.
func (p *Page) cleared() uint64 { return p.LastPosition - p.Count }

// check says whether a page behind a position has the messages there in order, and none is left out.
func (p *Page) check(after uint64) error {
	after = max(after, p.cleared())
	for i := range p.Messages {
		if position := p.Messages[i].Position; position != after+uint64(i)+1 {
			return fmt.Errorf("a page goes on from %d with %d: %w", after+uint64(i), position, ErrPositions)
		}
	}
	if len(p.Messages) == 0 && p.LastPosition > after {
		return fmt.Errorf("a page behind %d is empty, and the last position is %d: %w", after, p.LastPosition, ErrPositions)
	}
	return nil
}

// stalePatience is how long All looks for a replica that is as new as the one that it has read before.
const stalePatience = 30 * time.Second

var errStale = errors.New("the pages are from a state that is older than one that was read before")

// All reads a log page by page, from options.After to what is its end then. An error is the last thing that it gives,
// unless it is a *DecodeError, which is that message's alone: the next one follows if the loop goes on. It can be one
// with ErrPositions: a message is missing that was not cleared. If a replica answers that is older than the one before,
// it asks again.
func (c *Client) All(ctx context.Context, log string, options ReadOptions) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		options := options
		options.IfNoneMatch = ""
		wait, newest := stale{pace: c.retry.pace()}, uint64(0)
		for {
			page, err := c.Messages(ctx, log, options)
			if (err == nil || KindOf(err) == NotFound) && page.LastPosition < newest {
				page.Messages, err = nil, wait.pause(ctx)
			} else if err == nil {
				err = page.check(options.After)
				newest = page.LastPosition
				wait.reset()
			}
			if err != nil {
				yield(Message{}, asError(err, "reading", messagesPath(log)))
				return
			}
			for _, m := range page.Messages {
				if !yield(m, m.Err) {
					return
				}
				options.After = m.Position
			}
			if page.LastPosition == newest && max(options.After, page.cleared()) >= newest {
				return
			}
		}
	}
}

// stale is the wait for a page that is not too old.
type stale struct {
	pace
	since time.Time // zero while there is none to wait for
}

// pause pauses before the page is asked for again, or fails when that has gone on for too long.
func (s *stale) pause(ctx context.Context) error {
	if s.since.IsZero() {
		s.since = time.Now()
	}
	if time.Since(s.since) > stalePatience {
		return fmt.Errorf("for %v, the limit: %w", stalePatience, errStale)
	}
	return pause(ctx, s.next(0))
}

func (s *stale) reset() { *s = stale{pace: pace{least: s.least, most: s.most}} }

// asError makes an error an *Error, if it is none.
func asError(err error, doing, path string) error {
	var e *Error
	if errors.As(err, &e) {
		return err
	}
	return &Error{Method: doing, Path: path, Err: err}
}

// LogInfo says what a log has.
type LogInfo struct {
	Name         string `json:"name"`
	LastPosition uint64 `json:"last_position"` // of the newest message that there ever was
	Count        uint64 `json:"count"`         // how many messages it has now: the newest ones
	// FirstPosition is that of the oldest message that it has, or of the next one if it has none.
	FirstPosition uint64 `json:"first_position"`
}

// Logs gives the logs in order of their names. An error is the last thing that it gives.
func (c *Client) Logs(ctx context.Context) iter.Seq2[LogInfo, error] {
	return func(yield func(LogInfo, error) bool) {
		for path := "/v1/logs"; ; {
			var list struct {
				Logs []LogInfo `json:"logs"`
			}
			a, err := c.ask(ctx, &call{method: http.MethodGet, path: path, repeatable: true}, &list)
			if err != nil {
				yield(LogInfo{}, err)
				return
			}
			for _, log := range list.Logs {
				if !yield(log, nil) {
					return
				}
			}
			if len(list.Logs) == 0 || !strings.Contains(a.header.Get("Link"), `rel="next"`) {
				return
			}
			path = "/v1/logs?after=" + url.QueryEscape(list.Logs[len(list.Logs)-1].Name)
		}
	}
}
