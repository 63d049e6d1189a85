package command

import (
	"context"
	"strings"
	"time"

	"github.com/drainmark/drainmark/client"
)

// Tail prints the end of a log, and follows it.
type Tail struct {
	Log       string  `arg:"" help:"The log." complete:"log"`
	Last      *uint64 `env:"-" help:"How many of the newest messages to begin with: 10 if neither this nor --from is set." placeholder:"N" xor:"begin"`
	From      *uint64 `env:"-" help:"Position to begin with, in place of --last." placeholder:"N" xor:"begin"`
	Follow    bool    `short:"f" env:"-" help:"Go on with each message as soon as it is persisted, through broken connections and restarts, until ctrl-C. The log need not exist yet."`
	Separated `embed:""`
	Server    `embed:""`
	Output    `embed:""`
}

// Help has examples.
func (Tail) Help() string {
	return `Examples:

    drainmark tail guestbook
    drainmark tail guestbook --follow --last 0
    drainmark tail guestbook --follow --from 1 --output json | jq .body`
}

// Run is called by kong.
func (t *Tail) Run(streams *Streams) error {
	if err := checkLog(t.Log); err != nil {
		return err
	}
	if t.From != nil {
		if err := checkFrom(*t.From); err != nil {
			return err
		}
	}
	broken := &brokenStreams{streams: streams}
	c, err := t.Client(streams, broken.observe)
	if err != nil {
		return err
	}
	defer c.Close()
	after, err := t.begin(streams.Context, c)
	if err != nil {
		return streams.failure("reading", err)
	}
	messages := c.Tail(streams.Context, t.Log, after)
	if !t.Follow {
		messages = c.All(streams.Context, t.Log, client.ReadOptions{After: after})
	}
	out := &messagePrinter{printer: t.printer(streams), separator: separators[t.Separator], last: after, note: streams.note}
	for m, err := range messages {
		if err != nil && t.Follow && streams.Context.Err() != nil {
			return nil // it has followed until it was told to end
		}
		if err != nil {
			return streams.failure("reading", err)
		}
		if out.message(m); out.err != nil {
			return out.err
		}
	}
	return nil
}

// begin returns the position behind which to begin. It also finds out whether anybody answers: to follow waits for ever.
func (t *Tail) begin(ctx context.Context, c *client.Client) (uint64, error) {
	page, err := c.Messages(ctx, t.Log, client.ReadOptions{Limit: 1})
	if err != nil && !(t.Follow && client.KindOf(err) == client.NotFound) {
		return 0, err
	}
	last := uint64(10)
	switch {
	case t.From != nil:
		return *t.From - 1, nil
	case t.Last != nil:
		last = *t.Last
	}
	return page.LastPosition - min(last, page.Count), nil
}

// brokenStreams tells people that an event stream has broken, and is opened again.
type brokenStreams struct {
	streams *Streams
	told    time.Time
}

// observe is called after each request, one after the other.
func (b *brokenStreams) observe(a client.Attempt) {
	const often = 10 * time.Second
	if a.Err == nil || !strings.HasSuffix(a.Path, "/events") || b.streams.Context.Err() != nil || time.Since(b.told) < often || !client.Retryable(a.Err) {
		return
	}
	b.told = time.Now()
	b.streams.note("trying again: %v", a.Err)
}
