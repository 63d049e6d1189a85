package command

import (
	"errors"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/client"
)

// Read prints a log up to its end.
type Read struct {
	Log       string        `arg:"" help:"The log." complete:"log"`
	From      uint64        `env:"-" help:"Position to begin with." default:"1" placeholder:"N"`
	Limit     uint64        `env:"-" help:"How many messages to print at most; 0 for all." default:"0" placeholder:"N"`
	Receipt   []string      `env:"-" help:"Print a state that has the writes of this receipt. Repeated for several." placeholder:"RECEIPT"`
	Timeout   time.Duration `env:"-" help:"How long to wait until there is such a state. Servers wait for 1m at most." default:"30s"`
	Separated `embed:""`
	Server    `embed:""`
	Output    `embed:""`
}

// Help has examples.
func (Read) Help() string {
	return `Examples:

    drainmark read guestbook --output plain
    drainmark read guestbook --from 1001 --limit 100
    drainmark read guestbook --receipt "$(echo hello | drainmark append guestbook --output plain)"`
}

// Run is called by kong.
func (r *Read) Run(streams *Streams) error {
	if err := errors.Join(checkLog(r.Log), checkFrom(r.From), checkTimeout(r.Timeout)); err != nil {
		return err
	}
	c, err := r.Client(streams, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	out := &messagePrinter{printer: r.printer(streams), separator: separators[r.Separator], last: r.From - 1, note: streams.note}
	options := client.ReadOptions{After: r.From - 1, Wait: r.Timeout, Receipts: merge(r.Receipt)}
	for m, err := range c.All(streams.Context, r.Log, options) {
		if err != nil {
			return streams.failure("reading", err)
		}
		if out.message(m); out.err != nil {
			return out.err
		}
		if r.Limit--; r.Limit == 0 { // 0 becomes more than there can be
			break
		}
	}
	return nil
}

// merge makes one receipt of several.
func merge(receipts []string) client.Receipt {
	all := make([]client.Receipt, len(receipts))
	for i, r := range receipts {
		all[i] = client.Receipt(strings.TrimSpace(r))
	}
	return client.Merge(all...)
}

func checkFrom(from uint64) error {
	if from == 0 {
		return drainmark.Errorf(drainmark.KindMisconfigured, "--from: 0: positions are 1, 2, 3, …")
	}
	return nil
}

func checkTimeout(timeout time.Duration) error {
	if timeout < 0 {
		return drainmark.Errorf(drainmark.KindMisconfigured, "--timeout: %s: it must be 0 or more", timeout)
	}
	return nil
}
