package command

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/client"
)

// Wait waits until writes are persisted.
type Wait struct {
	Receipt           []string      `arg:"" optional:"" complete:"no" help:"Receipts of what is waited for. Without any, it is everything that was accepted before, by whomever: a barrier."`
	Log               []string      `env:"-" help:"Wait only for what was accepted for this log. Repeated for several." placeholder:"LOG" complete:"log"`
	Timeout           time.Duration `env:"-" help:"How long to wait; 0 to ask once." default:"1m"`
	FailOnDeadLetters bool          `env:"-" help:"With a barrier: fail with exit code 1 if records are set aside as dead letters, since they are in no log. Otherwise that is only said."`
	Server            `embed:""`
	Output            `embed:""`
}

// Help has examples.
func (Wait) Help() string {
	return `Exit code 0: all of it is persisted, and can be read. 4: not yet, when the time was over. 1: some of it never will be. 3: nobody answers.

Examples:

    drainmark wait
    drainmark wait --log orders --log invoices --timeout 10m --fail-on-dead-letters
    drainmark wait "$(echo hello | drainmark append guestbook --output plain)"`
}

// Run is called by kong.
func (w *Wait) Run(streams *Streams) error {
	if err := errors.Join(checkLog(w.Log...), checkTimeout(w.Timeout)); err != nil {
		return err
	}
	if len(w.Receipt) > 0 && (len(w.Log) > 0 || w.FailOnDeadLetters) {
		return drainmark.Errorf(drainmark.KindMisconfigured, "--log and --fail-on-dead-letters are of a barrier: a receipt says by itself which writes it is of, and whether one was rejected")
	}
	c, err := w.Client(streams, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	waiting := w.waiting(c, streams)
	status, err := waiting.run(streams.Context, w.Timeout)
	var printing error
	if status.State != "" {
		printing = w.print(streams, status, waiting)
	}
	switch {
	case err != nil:
		return err
	case status.State == client.Rejected:
		return rejectedError(status)
	case w.FailOnDeadLetters && status.SetAside != nil && *status.SetAside > 0:
		return drainmark.Errorf(drainmark.KindConflict, "it is reached, but %s", status.Reason)
	}
	return printing
}

// waiting says what to wait for, and how to ask.
func (w *Wait) waiting(c *client.Client, streams *Streams) *waiting {
	receipt := merge(w.Receipt)
	waiting := &waiting{what: "everything that was accepted before", streams: streams}
	switch {
	case receipt != "":
		waiting.what = "the writes of " + plural(len(w.Receipt), "receipt")
		waiting.begin = func(ctx context.Context, wait time.Duration) (client.Status, error) {
			return c.Status(ctx, receipt, wait)
		}
		waiting.again = c.Status
		return waiting
	case len(w.Log) > 0:
		waiting.what += " for " + strings.Join(w.Log, ", ")
	}
	waiting.begin = func(ctx context.Context, wait time.Duration) (client.Status, error) {
		return c.Barrier(ctx, wait, w.Log...)
	}
	waiting.again = c.BarrierAgain
	return waiting
}

func (w *Wait) print(streams *Streams, status client.Status, waiting *waiting) error {
	out := w.printer(streams, "STATE", "AFTER", "WHAT")
	switch out.format {
	case asJSON:
		out.json(statusOf(status))
	case asPlain:
		out.text(string(status.State) + "\n")
	default:
		out.row(string(status.State), waiting.passed(), waiting.what)
		out.flush()
		if status.Reason != "" {
			out.text(visible(status.Reason) + "\n")
		}
	}
	return out.err
}

// waiting is a wait that goes on over many requests.
type waiting struct {
	what    string // for people
	begin   func(ctx context.Context, wait time.Duration) (client.Status, error)
	again   func(ctx context.Context, receipt client.Receipt, wait time.Duration) (client.Status, error)
	streams *Streams
	began   time.Time
	told    time.Time
	reason  string // that was told last
}

const (
	stepOfWait = 2 * time.Second        // how long a server waits before it answers how things stand
	earliest   = 250 * time.Millisecond // between two questions, if a server does not wait
	grace      = 5 * time.Second        // for the answer to what was asked in time
)

// run asks until it is settled, or the time is over. It returns what is known last, also with an error.
func (w *waiting) run(ctx context.Context, timeout time.Duration) (client.Status, error) {
	w.began = time.Now()
	w.told = w.began
	limited, cancel := context.WithTimeout(ctx, timeout+grace)
	defer cancel()
	progress := w.streams.progress()
	defer progress.end()
	var last client.Status
	for {
		left := max(timeout-time.Since(w.began), 0)
		asked := time.Now()
		status, err := w.ask(limited, last, min(left, stepOfWait))
		if err != nil {
			return last, w.failed(ctx, last, err)
		}
		if last = status; settled(last) {
			return last, nil
		}
		if time.Since(w.began) >= timeout {
			return last, w.notReached(last)
		}
		w.tell(progress, last)
		w.pause(ctx, asked)
	}
}

func (w *waiting) ask(ctx context.Context, last client.Status, wait time.Duration) (client.Status, error) {
	if last.Receipt == "" {
		return w.begin(ctx, wait)
	}
	return w.again(ctx, last.Receipt, wait)
}

// pause keeps a server that answers at once from being asked all the time.
func (w *waiting) pause(ctx context.Context, asked time.Time) {
	timer := time.NewTimer(earliest - time.Since(asked))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// failed is the error of a wait that an error has ended.
func (w *waiting) failed(ctx context.Context, last client.Status, err error) error {
	switch {
	case ctx.Err() != nil:
		return drainmark.Errorf(drainmark.KindNotReached, "interrupted after %s, while waiting for %s", w.passed(), w.what)
	case last.State != "" && errors.Is(err, context.DeadlineExceeded):
		return w.notReached(last)
	}
	return w.streams.failure("waiting for "+w.what, err)
}

func (w *waiting) notReached(last client.Status) error {
	text := fmt.Sprintf("not reached within %s: %s: %s", w.passed(), w.what, last.State)
	if last.Reason != "" {
		text += ": " + visible(last.Reason)
	}
	if last.Missing > 0 {
		text += fmt.Sprintf("; %s missing: the broker did not deliver them", plural(int(last.Missing), "accepted record"))
	}
	return drainmark.Errorf(drainmark.KindNotReached, "%s", text)
}

func (w *waiting) passed() string {
	return time.Since(w.began).Round(10 * time.Millisecond).String()
}

// tell says what is waited for: in place on a terminal, and elsewhere in a line now and then, and when the reason changes.
func (w *waiting) tell(progress *progress, s client.Status) {
	const often = 10 * time.Second
	text := fmt.Sprintf("waiting for %s: %s, %s", w.what, s.State, w.passed())
	if s.Reason != "" {
		text += ": " + visible(s.Reason)
	}
	switch {
	case progress.place:
		progress.say("%s", text)
	case s.Reason != w.reason || time.Since(w.told) >= often:
		w.told, w.reason = time.Now(), s.Reason
		w.streams.note("%s", text)
	}
}

// settled says whether asking again cannot bring anything new.
func settled(s client.Status) bool {
	return s.State == client.Persisted || s.State == client.Rejected || s.State == client.Reached
}

// rejectedError says what of some writes will never be persisted.
func rejectedError(s client.Status) error {
	text := "some of it can never be persisted"
	if r := s.Rejected; r != nil {
		text = plural(int(r.Count), "record") + " can never be persisted"
		if !r.Exact {
			text = "at least " + text
		}
		if len(r.DeadLetters) > 0 {
			text += ", of which the first is the dead letter " + visible(r.DeadLetters[0])
		}
	}
	return drainmark.Errorf(drainmark.KindConflict, "rejected: %s: %s", text, visible(s.Reason))
}

// shownStatus is a Status as the API shows it.
type shownStatus struct {
	Receipt  client.Receipt          `json:"receipt"`
	State    client.State            `json:"state"`
	Reason   string                  `json:"reason,omitempty"`
	Count    uint64                  `json:"count,omitempty"`
	ID       string                  `json:"id,omitempty"`
	Marks    []string                `json:"marks,omitempty"`
	Rejected *client.RejectedRecords `json:"rejected,omitempty"`
	Missing  uint64                  `json:"missing,omitempty"`
	SetAside *uint64                 `json:"set_aside,omitempty"`
}

func statusOf(s client.Status) shownStatus {
	return shownStatus{s.Receipt, s.State, s.Reason, s.Count, s.ID, s.Marks, s.Rejected, s.Missing, s.SetAside}
}

// plural is a number of things.
func plural[N int | uint64](n N, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
