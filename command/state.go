package command

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/client"
)

// Logs lists the logs.
type Logs struct {
	Server `embed:""`
	Output `embed:""`
}

// Run is called by kong.
func (l *Logs) Run(streams *Streams) error {
	c, err := l.Client(streams, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	out := l.printer(streams, "LOG", "MESSAGES", "LAST POSITION")
	for log, err := range c.Logs(streams.Context) {
		if err != nil {
			out.flush()
			return streams.failure("listing the logs", err)
		}
		if out.format == asJSON {
			out.json(log)
		} else {
			out.row(log.Name, fmt.Sprint(log.Count), fmt.Sprint(log.LastPosition))
		}
		if out.err != nil {
			return out.err
		}
	}
	out.flush()
	return out.err
}

const (
	namesWithin = 500 * time.Millisecond // how long Names asks
	mostNames   = 1000                   // how many logs it looks at
)

// Names returns the logs whose names begin with a word, for a shell that completes it. It asks for a moment only, and
// returns what it has got until then, which may be nothing.
func (l *Logs) Names(ctx context.Context, word string) (names []string) {
	ctx, cancel := context.WithTimeout(ctx, namesWithin)
	defer cancel()
	l.Patience = 0
	c, err := l.Client(&Streams{Context: ctx, Err: io.Discard}, nil)
	if err != nil {
		return nil
	}
	defer c.Close()
	seen := 0
	for log, err := range c.Logs(ctx) {
		if seen++; err != nil || seen > mostNames {
			break
		}
		if strings.HasPrefix(log.Name, word) {
			names = append(names, log.Name)
		}
	}
	return names
}

// Status says what works.
type Status struct {
	Server `embed:""`
	Output `embed:""`
}

// Run is called by kong.
func (s *Status) Run(streams *Streams) error {
	c, err := s.Client(streams, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	working, err := c.Working(streams.Context)
	if err != nil {
		return streams.failure("asking what works", err)
	}
	persisting := client.Persisting{}
	if working.Persisting != nil {
		persisting = *working.Persisting
	}
	out := s.printer(streams, "WHAT", "WORKS", "WHY NOT")
	if out.format == asJSON {
		out.json(working)
	} else {
		out.row("appends", yes(&working.Appends.Working), dash(given(working.Appends.Reason)))
		out.row("reads", yes(&working.Reads.Working), dash(given(working.Reads.Reason)))
		out.row("persisting", yes(persisting.Working), dash(given(persisting.Reason)))
		out.flush()
	}
	if !working.Appends.Working || !working.Reads.Working || persisting.Working != nil && !*persisting.Working {
		return drainmark.Errorf(drainmark.KindInternal, "something does not work")
	}
	return out.err
}

func yes(works *bool) string {
	switch {
	case works == nil:
		return "not known"
	case *works:
		return "yes"
	}
	return "no"
}

// given is a value, or zero if there is none.
func given[V any](value *V) (v V) {
	if value != nil {
		v = *value
	}
	return v
}

// Backlog says what is accepted and not yet persisted.
type Backlog struct {
	Server `embed:""`
	Output `embed:""`
}

// Help says what it is not.
func (Backlog) Help() string {
	return `It is for people and graphs. To know whether everything is persisted, use: drainmark wait`
}

// Run is called by kong.
func (b *Backlog) Run(streams *Streams) error {
	c, err := b.Client(streams, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	backlog, err := c.Backlog(streams.Context)
	if err != nil {
		return streams.failure("asking for the backlog", err)
	}
	out := b.printer(streams, "PARTITION", "PENDING", "READY", "IN FLIGHT", "OLDEST", "HELD BY", "PERSISTED", "STALLED")
	if out.format == asJSON {
		out.json(backlog)
		return out.err
	}
	for _, p := range backlog.Partitions {
		out.row(append(counts(fmt.Sprint(p.Partition), p.Counts), owner(p.Owner), fmt.Sprint(p.Persisted), stalled(p))...)
	}
	out.row(append(counts("all", backlog.Counts), "", "", "")...)
	out.flush()
	return out.err
}

func counts(name string, c client.Counts) []string {
	oldest := "-"
	if c.OldestPendingSeconds != nil {
		oldest = time.Duration(*c.OldestPendingSeconds * float64(time.Second)).Round(100 * time.Millisecond).String()
	}
	return []string{name, count(&c.Pending), count(c.Ready), count(c.InFlight), oldest}
}

// count is a number, with a plus behind it if it is a lower bound.
func count(c *client.Count) string {
	switch {
	case c == nil:
		return "-"
	case c.Exact:
		return fmt.Sprint(c.Records)
	}
	return fmt.Sprintf("%d+", c.Records)
}

func owner(name *string) string {
	switch {
	case name == nil:
		return "nobody"
	case *name == "":
		return "somebody"
	}
	return *name
}

func stalled(p client.PartitionBacklog) string {
	text := given(p.Stalled)
	for _, m := range p.Missing {
		text += fmt.Sprintf(" missing: %s-%d..%d", m.Producer, m.First, m.Last)
	}
	return dash(text)
}
