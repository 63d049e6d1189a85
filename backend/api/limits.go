package api

import (
	"cmp"
	"time"

	"github.com/drainmark/drainmark"
)

// A content type and an idempotency key may have so many bytes. Both travel with each message.
const (
	maxContentType = 255
	maxKey         = 255
)

// maxSmallBody is how many bytes of body a request may have that needs none, or only a few names.
const maxSmallBody = 64 << 10

// maxPosition is the highest position that can be asked for: the highest integer that every JSON reader keeps exact.
const maxPosition = 1<<53 - 1

// Limits bounds what one request may cost. A zero field means its default.
type Limits struct {
	Message int   // bytes of one message (default 256 KiB)
	Many    int   // bytes of a request of many messages (default 8 MiB)
	Lines   int   // messages of such a request (default 10,000)
	Bodies  int64 // bytes that buffers of request bodies may have at once (default 256 MiB)
	Page    int   // things on a page when the request names no limit (default 100)
	MaxPage int   // things on a page at most (default 1,000)
	Named   int   // receipts, or logs, that one request may name (default 1,000)

	Wait       time.Duration // the longest wait that a request gets, in whole seconds (default 60 s)
	Request    time.Duration // how long a request takes at most, besides the wait that it asked for (default 10 s)
	Heartbeat  time.Duration // silence on an event stream before it gets a comment (default 15 s)
	Write      time.Duration // how long the client may take to accept one write (default 10 s)
	RetryAfter time.Duration // Retry-After, in whole seconds (default 1 s), ten times that while a disk is full
}

// withDefaults fills in what is not set, and says what cannot be.
func (l Limits) withDefaults() (Limits, error) {
	d := Limits{
		Message: 256 << 10, Many: 8 << 20, Lines: 10_000, Bodies: 256 << 20, Page: 100, MaxPage: 1000, Named: 1000,
		Wait: 60 * time.Second, Request: 10 * time.Second, Heartbeat: 15 * time.Second, Write: 10 * time.Second,
		RetryAfter: time.Second,
	}
	err := cmp.Or(
		setDefault("Message", &l.Message, d.Message), setDefault("Many", &l.Many, d.Many),
		setDefault("Lines", &l.Lines, d.Lines), setDefault("Bodies", &l.Bodies, d.Bodies),
		setDefault("MaxPage", &l.MaxPage, d.MaxPage), setDefault("Named", &l.Named, d.Named),
		setDefault("Wait", &l.Wait, d.Wait), setDefault("Request", &l.Request, d.Request),
		setDefault("Heartbeat", &l.Heartbeat, d.Heartbeat), setDefault("Write", &l.Write, d.Write),
		setDefault("RetryAfter", &l.RetryAfter, d.RetryAfter),
	)
	err = cmp.Or(err, setDefault("Page", &l.Page, min(d.Page, l.MaxPage)))
	switch {
	case err != nil:
		return l, err
	case l.Page > l.MaxPage:
		return l, drainmark.Errorf(drainmark.KindMisconfigured, "limit Page is %d: it must not be over MaxPage, %d", l.Page, l.MaxPage)
	case l.Bodies < int64(max(l.Message, l.Many)):
		return l, drainmark.Errorf(drainmark.KindMisconfigured,
			"limit Bodies is %d bytes: it must hold a request of %d bytes", l.Bodies, max(l.Message, l.Many))
	}
	return l, nil
}

func setDefault[T ~int | ~int64](name string, field *T, value T) error {
	if *field < 0 {
		return drainmark.Errorf(drainmark.KindMisconfigured, "limit %s is %v: it must be above 0", name, *field)
	}
	if *field == 0 {
		*field = value
	}
	return nil
}
