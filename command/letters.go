package command

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/client"
)

// DeadLetters are the commands about records that could not be persisted.
type DeadLetters struct {
	List    ListLetters    `cmd:"" help:"List dead letters."`
	Show    ShowLetter     `cmd:"" help:"Show a dead letter, with its body."`
	Retry   RetryLetters   `cmd:"" help:"Have dead letters tried again."`
	Discard DiscardLetters `cmd:"" help:"Give dead letters up. It cannot be undone."`
}

// Filter says which dead letters are meant.
type Filter struct {
	Log       string        `env:"-" help:"Those of this log." placeholder:"LOG" complete:"log"`
	Reason    string        `env:"-" help:"Those with a reason that begins so." placeholder:"TEXT"`
	OlderThan time.Duration `env:"-" help:"Those that were set aside before so long a time." placeholder:"DURATION"`
}

func (f Filter) check() error {
	if f.OlderThan < 0 {
		return drainmark.Errorf(drainmark.KindMisconfigured, "--older-than: %s: it must be 0 or more", f.OlderThan)
	}
	if f.Log == "" {
		return nil
	}
	return checkLog(f.Log)
}

func (f Filter) filter() client.DeadLetterFilter {
	filter := client.DeadLetterFilter{Log: f.Log, Reason: f.Reason}
	if f.OlderThan > 0 {
		filter.Before = time.Now().Add(-f.OlderThan)
	}
	return filter
}

// ListLetters lists dead letters.
type ListLetters struct {
	Filter `embed:""`
	Limit  uint64 `env:"-" help:"How many to list at most; 0 for all." default:"0" placeholder:"N"`
	Server `embed:""`
	Output `embed:""`
}

// Run is called by kong.
func (l *ListLetters) Run(streams *Streams) error {
	if err := l.check(); err != nil {
		return err
	}
	c, err := l.Client(streams, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	out := l.printer(streams, "DEAD LETTER", "LOG", "SET ASIDE", "TRIED", "REASON")
	for letter, err := range c.DeadLettersOf(streams.Context, l.filter()) {
		if err != nil {
			out.flush()
			return streams.failure("listing the dead letters", err)
		}
		if out.format == asJSON {
			out.json(letterOf(letter))
		} else {
			out.row(letter.ID, dash(letter.Log), clock(letter.SetAsideAt), fmt.Sprint(letter.Attempts), letter.Reason)
		}
		if out.err != nil {
			return out.err
		}
		if l.Limit--; l.Limit == 0 { // 0 becomes more than there can be
			break
		}
	}
	out.flush()
	return out.err
}

// shownLetter is a dead letter as the API shows it.
type shownLetter struct {
	ID         string  `json:"id"`
	Partition  int     `json:"partition"`
	Log        string  `json:"log"`
	Reason     string  `json:"reason"`
	SetAsideAt moment  `json:"set_aside_at"`
	Attempts   int     `json:"attempts"`
	Producer   string  `json:"producer,omitempty"`
	First      uint64  `json:"first,omitempty"`
	Last       uint64  `json:"last,omitempty"`
	AcceptedAt *moment `json:"accepted_at,omitempty"`
	content
	ContentType string            `json:"content_type,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
	Key         string            `json:"key,omitempty"`
	Principal   string            `json:"principal,omitempty"`
	Undecoded   bool              `json:"undecoded"`
}

func letterOf(l client.DeadLetter) shownLetter {
	shown := shownLetter{
		ID: l.ID, Partition: l.Partition, Log: l.Log, Reason: l.Reason, SetAsideAt: moment(l.SetAsideAt), Attempts: l.Attempts,
		Producer: l.Producer, First: l.First, Last: l.Last, ContentType: l.ContentType, Headers: l.Headers, Key: l.Key,
		Principal: l.Principal, Undecoded: l.Undecoded,
	}
	if !l.AcceptedAt.IsZero() {
		accepted := moment(l.AcceptedAt)
		shown.AcceptedAt = &accepted
	}
	if l.Body != nil {
		shown.content = contentOf(l.Body)
	}
	return shown
}

// ShowLetter shows one.
type ShowLetter struct {
	ID     string `arg:"" complete:"no" help:"The dead letter."`
	Server `embed:""`
	Output `embed:""`
}

// Run is called by kong.
func (l *ShowLetter) Run(streams *Streams) error {
	c, err := l.Client(streams, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	for letter, err := range c.DeadLetters(streams.Context) { // the API lists them, and asks for none by its name
		if err != nil {
			return streams.failure("looking for the dead letter", err)
		}
		if letter.ID == l.ID {
			return l.print(l.printer(streams, "", ""), letter)
		}
	}
	return noLetter(l.ID)
}

func noLetter(id string) error {
	return drainmark.Errorf(drainmark.KindNotFound, "there is no open dead letter %s", visible(id))
}

func (l *ShowLetter) print(out *printer, letter client.DeadLetter) error {
	switch out.format {
	case asJSON:
		out.json(letterOf(letter))
	case asPlain:
		out.text(string(letter.Body))
	default:
		out.headed = true
		for _, row := range [][2]string{
			{"dead letter", letter.ID}, {"log", letter.Log}, {"reason", letter.Reason}, {"set aside", clock(letter.SetAsideAt)},
			{"accepted", clock(letter.AcceptedAt)}, {"tried", plural(letter.Attempts, "time")}, {"key", letter.Key},
			{"sent by", letter.Principal}, {"content type", letter.ContentType},
		} {
			out.row(row[0], dash(row[1]))
		}
		for _, name := range slices.Sorted(maps.Keys(letter.Headers)) {
			out.row("header", name+": "+letter.Headers[name])
		}
		out.width = 0 // the whole reason, and the whole body
		out.row("body", previewOf(client.Message{Body: letter.Body, ContentType: letter.ContentType}))
		out.flush()
	}
	return out.err
}

// Settling is what retrying and discarding have in common.
type Settling struct {
	ID      []string `arg:"" optional:"" complete:"no" help:"The dead letters, if they are not said by --log, --reason, --older-than or --all."`
	Filter  `embed:""`
	All     bool          `env:"-" help:"All that there are now."`
	DryRun  bool          `env:"-" help:"Only say how many it would be."`
	Rate    float64       `env:"-" help:"How many a second at most, in steps of up to 100; 0 for no limit." default:"0" placeholder:"N"`
	Timeout time.Duration `env:"-" help:"How long to wait until one of those that are named by themselves is done." default:"30s"`
	Sure    `embed:""`
	Server  `embed:""`
	Output  `embed:""`
}

// RetryLetters has them tried again.
type RetryLetters struct {
	Settling `embed:""`
}

// Help has examples.
func (RetryLetters) Help() string {
	return `Those that are refused again stay, with the new reason, and the exit code is 1. Of many, it is waited for a few seconds with each step until that is known: look at the list afterwards.

Examples:

    drainmark dead-letters retry --log orders --dry-run
    drainmark dead-letters retry --log orders --reason 'rejected: sold_out' --rate 50
    drainmark dead-letters retry 0-4bf92f3577b34da6a3ce929d0e0e4736-7`
}

// Run is called by kong.
func (r *RetryLetters) Run(streams *Streams) error {
	return r.settle(streams, "have %s tried again", (*client.Client).RetryDeadLetter, (*client.Client).RetryDeadLetters)
}

// DiscardLetters gives them up.
type DiscardLetters struct {
	Settling `embed:""`
}

// Help has examples.
func (DiscardLetters) Help() string {
	return `Receipts still say why the records were rejected. Missing records are discarded one by one: that declares them lost.

Examples:

    drainmark dead-letters discard --older-than 720h --dry-run
    drainmark dead-letters discard --older-than 720h --yes`
}

// Run is called by kong.
func (d *DiscardLetters) Run(streams *Streams) error {
	return d.settle(streams, "discard %s for ever", (*client.Client).DiscardDeadLetter, (*client.Client).DiscardDeadLetters)
}

type (
	settleOne  func(c *client.Client, ctx context.Context, id string, wait time.Duration) (client.Status, error)
	settleMany func(c *client.Client, ctx context.Context, f client.DeadLetterFilter, progress func(client.Settled)) (client.Settled, error)
)

// settle does what one of the commands does, which doing says.
func (s *Settling) settle(streams *Streams, doing string, one settleOne, many settleMany) error {
	if err := s.check(); err != nil {
		return err
	}
	c, err := s.Client(streams, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	if len(s.ID) > 0 {
		return s.each(streams, c, doing, one)
	}
	filter := s.filter()
	if s.All {
		filter.Before = time.Now()
	}
	found, err := c.CountDeadLetters(streams.Context, filter)
	if err != nil {
		return streams.failure("counting the dead letters", err)
	}
	if s.DryRun || found.DeadLetters == 0 {
		return s.print(streams, result{DeadLetters: found.DeadLetters, Records: &found.Records, Doing: doing, DryRun: s.DryRun})
	}
	if err := s.Sure.check(streams, fmt.Sprintf(doing, plural(found.DeadLetters, "dead letter"))); err != nil {
		return err
	}
	progress, pace := streams.progress(), pace{rate: s.Rate, began: time.Now()}
	defer progress.end()
	done, err := many(c, streams.Context, filter, func(so client.Settled) {
		progress.say("%d of %s", so.DeadLetters, plural(found.DeadLetters, "dead letter"))
		if so.DeadLetters < found.DeadLetters {
			pace.wait(streams.Context, so.DeadLetters)
		}
	})
	progress.end()
	if printed := s.print(streams, result{DeadLetters: done.DeadLetters, Records: &done.Records, Refused: done.Refused, Doing: doing}); err == nil {
		return printed
	}
	if streams.Context.Err() != nil {
		return interrupted("%s of %s", plural(done.DeadLetters, "dead letter"), plural(found.DeadLetters, "dead letter"))
	}
	return streams.failure(fmt.Sprintf("after %s", plural(done.DeadLetters, "dead letter")), err)
}

// check says whether it is clear which are meant.
func (s *Settling) check() error {
	filtered := s.Filter != Filter{} || s.All
	switch {
	case s.Rate < 0:
		return drainmark.Errorf(drainmark.KindMisconfigured, "--rate: %v: it must be 0 or more", s.Rate)
	case filtered == (len(s.ID) > 0):
		return drainmark.Errorf(drainmark.KindMisconfigured, "say which dead letters are meant: by their names, or by --log, --reason, --older-than or --all")
	case s.All && s.Filter != Filter{}:
		return drainmark.Errorf(drainmark.KindMisconfigured, "--all contradicts --log, --reason and --older-than")
	}
	return errors.Join(s.Filter.check(), checkTimeout(s.Timeout))
}

// each settles those that are named by themselves.
func (s *Settling) each(streams *Streams, c *client.Client, doing string, one settleOne) error {
	if s.DryRun {
		found, err := s.find(streams, c)
		if err != nil {
			return err
		}
		return s.print(streams, result{DeadLetters: found.DeadLetters, Records: &found.Records, Doing: doing, DryRun: true})
	}
	if len(s.ID) > 1 {
		if err := s.Sure.check(streams, fmt.Sprintf(doing, plural(len(s.ID), "dead letter"))); err != nil {
			return err
		}
	}
	all, pace := result{Doing: doing}, pace{rate: s.Rate, began: time.Now()}
	for _, id := range s.ID {
		pace.wait(streams.Context, all.DeadLetters)
		status, err := one(c, streams.Context, id, 0)
		if err == nil {
			status, err = awaitOne(streams, c, "the dead letter "+visible(id), status, s.Timeout)
		}
		if err != nil {
			return errors.Join(s.print(streams, all), streams.failure("the dead letter "+visible(id), err))
		}
		all.DeadLetters++
		if status.State == client.Rejected {
			all.Refused++
		}
	}
	return s.print(streams, all)
}

// find counts those that are named by themselves. Each of them must be there.
func (s *Settling) find(streams *Streams, c *client.Client) (found client.Settled, err error) {
	missing := map[string]bool{}
	for _, id := range s.ID {
		missing[id] = true
	}
	for letter, err := range c.DeadLetters(streams.Context) {
		if err != nil {
			return found, streams.failure("looking for the dead letters", err)
		}
		if missing[letter.ID] {
			delete(missing, letter.ID)
			found.DeadLetters++
			found.Records += letter.Last - letter.First + 1 // both are 0 if nobody knows: it is one at least
		}
		if len(missing) == 0 {
			break
		}
	}
	for _, id := range s.ID {
		if missing[id] {
			return found, noLetter(id)
		}
	}
	return found, nil
}

// result is what was done.
type result struct {
	DeadLetters uint64  `json:"dead_letters"`
	Records     *uint64 `json:"records,omitempty"` // that they stand for, nil where nobody has said it
	Refused     uint64  `json:"refused"`
	DryRun      bool    `json:"dry_run"`
	Doing       string  `json:"-"`
}

// print prints it, and returns an error if some were refused again.
func (s *Settling) print(streams *Streams, r result) error {
	out := s.printer(streams, "DEAD LETTERS", "RECORDS", "WHAT")
	what := "done"
	switch {
	case r.DryRun:
		what = "this would " + fmt.Sprintf(r.Doing, "them")
	case r.DeadLetters == 0:
		what = "nothing to do"
	}
	if out.format == asJSON {
		out.json(r)
	} else {
		records := "-"
		if r.Records != nil {
			records = fmt.Sprint(*r.Records)
		}
		out.row(fmt.Sprint(r.DeadLetters), records, what)
		out.flush()
	}
	if r.Refused > 0 {
		return drainmark.Errorf(drainmark.KindConflict, "%s refused again; they stay, with the new reason", plural(r.Refused, "dead letter"))
	}
	return out.err
}

// pace keeps work from being faster than a rate.
type pace struct {
	rate  float64 // a second, 0 for any
	began time.Time
}

// wait waits until so much may have been done.
func (p pace) wait(ctx context.Context, done uint64) {
	if p.rate <= 0 {
		return
	}
	timer := time.NewTimer(time.Until(p.began.Add(time.Duration(float64(done) / p.rate * float64(time.Second)))))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
