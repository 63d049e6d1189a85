package command

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
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

// removal is what all commands that remove something have.
type removal struct {
	Log     string        `arg:"" help:"The log." complete:"log"`
	Wait    bool          `env:"-" help:"Wait until it is done, and fail with exit code 4 if it is not yet."`
	Timeout time.Duration `env:"-" help:"How long --wait waits." default:"1m"`
	Sure    `embed:""`
	Server  `embed:""`
	Output  `embed:""`
}

// removing is a removal under way.
type removing struct {
	*removal
	streams *Streams
	what    string // "the clear"
	// question says what would be done to the log that the page is of.
	question func(client.Page) string
	call     func(*client.Client) (client.Status, error)
}

func (r removing) run() error {
	if err := errors.Join(checkLog(r.Log), checkTimeout(r.Timeout)); err != nil {
		return err
	}
	c, err := r.Client(r.streams, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	if !r.Yes { // so that the question says how much it is about
		page, err := c.Messages(r.streams.Context, r.Log, client.ReadOptions{Limit: 1})
		if err != nil {
			return r.streams.failure("looking at the log", err)
		}
		if err := r.check(r.streams, r.question(page)); err != nil {
			return err
		}
	}
	status, err := r.call(c)
	if err != nil {
		return r.streams.failure("asking for "+r.what, err)
	}
	if r.Wait {
		status, err = awaitOne(r.streams, c, r.what, status, r.Timeout)
	}
	return cmp.Or(err, printStatus(r.printer(r.streams, "STATE", "RECEIPT"), status))
}

// Clear removes the messages of a log.
type Clear struct {
	removal `embed:""`
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
	return removing{
		removal: &l.removal, streams: streams, what: "the clear",
		question: func(p client.Page) string {
			return fmt.Sprintf("remove %s of the log %s, and what has been accepted besides", plural(p.Count, "message"), l.Log)
		},
		call: func(c *client.Client) (client.Status, error) { return c.Clear(streams.Context, l.Log, 0) },
	}.run()
}

// Trim removes the oldest messages of a log.
type Trim struct {
	removal `embed:""`
	Through uint64 `env:"-" help:"The position up to which messages are removed, this one too." required:"" placeholder:"POSITION"`
}

// Help says what is not removed.
func (Trim) Help() string {
	return `Positions stay as they are: the log begins behind the one that is named. Of a shorter log, all that has been accepted before goes.

Examples:

    drainmark trim guestbook --through 1000`
}

// Run is called by kong.
func (l *Trim) Run(streams *Streams) error {
	if err := checkPosition("--through", l.Through); err != nil {
		return err
	}
	return removing{
		removal: &l.removal, streams: streams, what: "the trim",
		question: func(p client.Page) string {
			return fmt.Sprintf("remove the messages of the log %s up to position %d, of %d", l.Log, l.Through, p.LastPosition)
		},
		call: func(c *client.Client) (client.Status, error) { return c.Trim(streams.Context, l.Log, l.Through, 0) },
	}.run()
}

// Erase erases what one message holds.
type Erase struct {
	removal  `embed:""`
	Position uint64 `arg:"" help:"The position of the message."`
}

// Help says what stays, and where the content may still be.
func (Erase) Help() string {
	return `Position, id and times of the message stay. Its body, content type and headers are gone for readers once the receipt says that it is persisted. The documentation on security says for how long broker, backups and tables of your own may have them.

Examples:

    drainmark erase guestbook 17 --wait`
}

// Run is called by kong.
func (l *Erase) Run(streams *Streams) error {
	if err := checkPosition("the position", l.Position); err != nil {
		return err
	}
	return removing{
		removal: &l.removal, streams: streams, what: "the erasure",
		question: func(client.Page) string {
			return fmt.Sprintf("erase what the message at position %d of the log %s holds", l.Position, l.Log)
		},
		call: func(c *client.Client) (client.Status, error) { return c.Erase(streams.Context, l.Log, l.Position, 0) },
	}.run()
}

// Delete deletes a log.
type Delete struct {
	removal `embed:""`
}

// Help says what becomes of positions.
func (Delete) Help() string {
	return `The log is in no list any more, until something is written to it again. Positions go on then. As with clear, what is accepted after it stays, and it is not made again when its answer is lost.

Examples:

    drainmark delete guestbook`
}

// Run is called by kong.
func (l *Delete) Run(streams *Streams) error {
	return removing{
		removal: &l.removal, streams: streams, what: "the deletion",
		question: func(p client.Page) string {
			return fmt.Sprintf("delete the log %s with %s, and what has been accepted besides", l.Log, plural(p.Count, "message"))
		},
		call: func(c *client.Client) (client.Status, error) { return c.Delete(streams.Context, l.Log, 0) },
	}.run()
}

// checkPosition says whether a log can have that position.
func checkPosition(name string, position uint64) error {
	if position == 0 || position > math.MaxInt64 {
		return drainmark.Errorf(drainmark.KindMisconfigured, "%s: %d: positions are 1, 2, 3, …", name, position)
	}
	return nil
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
func printStatus(out *printer, s client.Status) error {
	switch out.format {
	case asJSON:
		out.json(statusOf(s))
	case asPlain:
		out.text(string(s.Receipt) + "\n")
	default:
		out.row(string(s.State), string(s.Receipt))
		out.flush()
	}
	return out.err
}
