package brokertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/drainmark/drainmark/broker"
)

var flagCases = []testCase{
	{name: "a broker has a flag exactly if its backlog is not exact", run: flagAsClaimed},
	{name: "a flag that nobody has raised says so", run: flagNeverRaised, needs: hasFlag},
	{name: "the newest raise is read, on every connection", run: flagRaised, needs: hasFlag},
	{name: "a lowering takes down the newest raise, and the flag can be raised again", run: flagLowered, needs: hasFlag},
	{name: "a lowering of an older raise leaves a newer one up", run: flagLoweredTooLate, needs: hasFlag},
	{name: "of many raises at the same time one is the newest, and its lowering takes all down", run: flagRaisedByMany,
		needs: hasFlag},
	{name: "nobody sees the flag down, or gone, while many read it", run: flagReadByMany, needs: hasFlag},
	{name: "a reader that dies takes nothing with it", run: flagReaderDies, needs: hasFlag},
	{name: "raises and lowerings survive the death of the server", run: flagSurvives,
		needs: hasFlagAndCanKill, kills: true},
	{name: "a flag ends with its connection", run: flagCloses, needs: hasFlag},
}

func hasFlag(_ *Server, traits broker.Traits) bool { return !traits.ExactBacklog }

func hasFlagAndCanKill(s *Server, traits broker.Traits) bool {
	return hasFlag(s, traits) && canKill(s, traits)
}

func flagAsClaimed(c *C) {
	b := c.connect()
	if exact, none := b.Traits().ExactBacklog, b.Flag() == nil; exact != none {
		c.Fatalf("Traits.ExactBacklog is %v, and it has no flag: %v", exact, none)
	}
}

// flags returns the flags of n connections.
func (c *C) flags(n int) []broker.Flag {
	flags := make([]broker.Flag, n)
	for i := range flags {
		flags[i] = c.connect().Flag()
	}
	return flags
}

func (c *C) tryRead(f broker.Flag) (string, error) { return call(c, "Flag.Read", f.Read) }

// shows checks what the flags say.
func (c *C) shows(want string, flags ...broker.Flag) {
	c.Helper()
	for i, f := range flags {
		if got, err := c.tryRead(f); err != nil || got != want {
			c.Fatalf("flag %d of %d is %q (%v), want %q", i+1, len(flags), got, err, want)
		}
	}
}

func (c *C) raise(f broker.Flag, texts ...string) {
	c.Helper()
	for _, text := range texts {
		if err := callError(c, "Raise", func(ctx context.Context) error { return f.Raise(ctx, text) }); err != nil {
			c.Fatalf("raising %q: %v", text, err)
		}
	}
}

func (c *C) lower(f broker.Flag, text string) {
	c.Helper()
	if err := callError(c, "Lower", func(ctx context.Context) error { return f.Lower(ctx, text) }); err != nil {
		c.Fatalf("lowering %q: %v", text, err)
	}
}

func flagNeverRaised(c *C) {
	f := c.connect().Flag()
	for range 2 {
		if text, err := c.tryRead(f); !errors.Is(err, broker.ErrNeverRaised) {
			c.Fatalf("it is %q (%v), want %v", text, err, broker.ErrNeverRaised)
		}
	}
	c.raise(f, "a")
	c.shows("a", f)
}

func flagRaised(c *C) {
	flags := c.flags(2)
	c.raise(flags[0], "a")
	c.shows("a", flags...)
	c.raise(flags[1], "b")
	c.shows("b", flags...)
	c.raise(flags[0], "c", "d")
	for range 3 {
		c.shows("d", flags...)
	}
	c.shows("d", c.connect().Flag())
}

func flagLowered(c *C) {
	flags := c.flags(2)
	c.raise(flags[0], "a", "b")
	c.lower(flags[1], "b")
	for range 3 {
		c.shows("", flags...)
	}
	c.lower(flags[0], "b")
	c.shows("", flags...)
	c.shows("", c.connect().Flag())
	c.raise(flags[1], "c")
	c.shows("c", flags...)
	c.lower(flags[1], "c")
	c.shows("", flags...)
}

func flagLoweredTooLate(c *C) {
	flags := c.flags(2)
	c.raise(flags[0], "a")
	c.shows("a", flags...)
	c.raise(flags[1], "b")
	c.lower(flags[0], "a")
	c.shows("b", flags...)
	c.lower(flags[0], "z")
	c.shows("b", flags...)
	c.lower(flags[1], "b")
	c.shows("", flags...)
	c.raise(flags[0], "c")
	c.lower(flags[1], "b") // it was down already
	c.shows("c", flags...)
}

func flagRaisedByMany(c *C) {
	flags := c.flags(3)
	const each = 20
	c.raise(flags[0], "first") // so that what the flag lies in is there
	var raising sync.WaitGroup
	failed := make([]error, len(flags))
	for i, f := range flags {
		raising.Go(func() {
			for n := range each {
				ctx, cancel := context.WithTimeout(c.Context(), c.patience)
				failed[i] = errors.Join(failed[i], f.Raise(ctx, fmt.Sprint(i, "-", n)))
				cancel()
			}
		})
	}
	raising.Wait()
	if err := errors.Join(failed...); err != nil {
		c.Fatalf("raising: %v", err)
	}
	newest, err := c.tryRead(flags[0])
	if err != nil || newest == "" {
		c.Fatalf("it is %q (%v)", newest, err)
	}
	c.shows(newest, flags...)
	c.lower(flags[1], newest)
	c.shows("", flags...)
}

func flagReadByMany(c *C) {
	flags := c.flags(4)
	c.raise(flags[0], "a")
	var reading sync.WaitGroup
	wrong := make([]error, len(flags))
	for i, f := range flags {
		reading.Go(func() {
			for n := range 5 {
				if i == 0 {
					ctx, cancel := context.WithTimeout(c.Context(), c.patience)
					wrong[i] = errors.Join(wrong[i], f.Raise(ctx, fmt.Sprint("b", n)))
					cancel()
				}
				ctx, cancel := context.WithTimeout(c.Context(), c.patience)
				text, err := f.Read(ctx)
				cancel()
				if err != nil || text == "" || i == 0 && text != fmt.Sprint("b", n) {
					wrong[i] = errors.Join(wrong[i], fmt.Errorf("reader %d read %q in round %d: %w", i, text, n, err))
				}
			}
		})
	}
	reading.Wait()
	if err := errors.Join(wrong...); err != nil {
		c.Fatalf("%v", err)
	}
}

func flagReaderDies(c *C) {
	f := c.connect().Flag()
	c.raise(f, "a", "b")
	for i := range 3 {
		dying := c.connect()
		flag := dying.Flag()
		c.shows("b", flag)
		ctx, cancel := context.WithTimeout(c.Context(), c.patience)
		begun, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			close(begun)
			_, _ = flag.Read(ctx) // it may have ended before the connection does
		}()
		<-begun
		time.Sleep(time.Duration(i) * 2 * time.Millisecond) // another moment of the read each time
		c.Drop(c.T, dying)
		c.shows("b", f)
		cancel()
		<-ended
	}
	c.lower(f, "b")
	c.shows("", f)
}

func flagSurvives(c *C) {
	f := c.connect().Flag()
	c.raise(f, "a", "b")
	c.Kill(c.T)
	c.Revive(c.T)
	f = c.connect().Flag()
	c.showsInTheEnd("b", f)
	c.lower(f, "b")
	c.Kill(c.T)
	c.Revive(c.T)
	f = c.connect().Flag()
	c.showsInTheEnd("", f)
	c.raise(f, "c")
	c.shows("c", f)
}

// showsInTheEnd is shows for a server that has just been started.
func (c *C) showsInTheEnd(want string, f broker.Flag) {
	c.Helper()
	c.eventually("reading the flag", func() error { _, err := c.tryRead(f); return err })
	c.shows(want, f)
}

func flagCloses(c *C) {
	b := c.connect()
	f := b.Flag()
	c.raise(f, "a")
	c.closed("closing the broker", b.Close)
	_, reading := c.tryRead(f)
	for what, err := range map[string]error{
		"reading":  reading,
		"raising":  callError(c, "Raise", func(ctx context.Context) error { return f.Raise(ctx, "b") }),
		"lowering": callError(c, "Lower", func(ctx context.Context) error { return f.Lower(ctx, "a") }),
	} {
		if !errors.Is(err, broker.ErrClosed) {
			c.Errorf("%s the flag of a closed broker: %v, want %v", what, err, broker.ErrClosed)
		}
	}
	c.shows("a", c.connect().Flag())
}
