package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/client"
)

// Sure is for what cannot be undone, or is about many things.
type Sure struct {
	Yes bool `short:"y" env:"-" help:"Do not ask. Without a terminal to ask on, it is needed."`
}

// check asks whether to go on with something. It returns an error if not.
func (s Sure) check(streams *Streams, doing string) error {
	if s.Yes {
		return nil
	}
	if !IsTerminal(streams.In) {
		return drainmark.Errorf(drainmark.KindMisconfigured, "this would %s: say --yes to do it", doing)
	}
	fmt.Fprintf(streams.Err, "This will %s. Go on? [y/N] ", doing)
	answers := make(chan string, 1)
	go func() { // it ends with the input, or the process
		line, _ := bufio.NewReader(streams.In).ReadString('\n')
		answers <- line
	}()
	select {
	case answer := <-answers:
		if word := strings.ToLower(strings.TrimSpace(answer)); word == "y" || word == "yes" {
			return nil
		}
	case <-streams.Context.Done():
		fmt.Fprintln(streams.Err)
	}
	return drainmark.Errorf(drainmark.KindInternal, "nothing was done")
}

// Clear removes the messages of a log.
type Clear struct {
	Log     string        `arg:"" help:"The log." complete:"log"`
	Wait    bool          `env:"-" help:"Wait until it is done, and fail with exit code 4 if it is not yet."`
	Timeout time.Duration `env:"-" help:"How long --wait waits." default:"1m"`
	Sure    `embed:""`
	Server  `embed:""`
	Output  `embed:""`
}

// Help says what is not removed.
func (Clear) Help() string {
	return `What is accepted after it stays. Positions go on behind the last one. It is not made again when its answer is lost, because that would take what was appended in between with it.

Examples:

    drainmark clear guestbook
    drainmark clear guestbook --yes --wait`
}

// Run is called by kong.
func (l *Clear) Run(streams *Streams) error {
	if err := errors.Join(checkLog(l.Log), checkTimeout(l.Timeout)); err != nil {
		return err
	}
	c, err := l.Client(streams, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	if !l.Yes { // so that the question says how much it is about
		page, err := c.Messages(streams.Context, l.Log, client.ReadOptions{Limit: 1})
		if err != nil {
			return streams.failure("looking at the log", err)
		}
		if err := l.check(streams, fmt.Sprintf("remove %s of the log %s, and what has been accepted besides", plural(page.Count, "message"), l.Log)); err != nil {
			return err
		}
	}
	status, err := c.Clear(streams.Context, l.Log, 0)
	if err != nil {
		return streams.failure("clearing", err)
	}
	if l.Wait {
		status, err = awaitOne(streams, c, "the clear", status, l.Timeout)
	}
	printStatus(l.printer(streams, "STATE", "RECEIPT"), status)
	return err
}

// awaitOne waits for what was just accepted to be persisted.
func awaitOne(streams *Streams, c *client.Client, what string, status client.Status, timeout time.Duration) (client.Status, error) {
	w := waiting{what: what, streams: streams, again: c.Status}
	w.begin = func(ctx context.Context, wait time.Duration) (client.Status, error) {
		return c.Status(ctx, status.Receipt, wait)
	}
	last, err := w.run(streams.Context, timeout)
	if last.State == "" {
		last = status
	}
	return last, err
}

// printStatus prints what became of something.
func printStatus(out *printer, s client.Status) {
	switch out.format {
	case asJSON:
		out.json(statusOf(s))
	case asPlain:
		out.text(string(s.Receipt) + "\n")
	default:
		out.row(string(s.State), string(s.Receipt))
		out.flush()
	}
}
