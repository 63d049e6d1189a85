package brokertest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/broker/memory"
)

// wrongFlag is the memory broker's flag with some of its behaviour replaced. Without hooks it is right.
type wrongFlag struct {
	c     *conn
	raise func(f broker.Flag, ctx context.Context, text string) error
	read  func(f broker.Flag, ctx context.Context) (string, error)
	lower func(f broker.Flag, ctx context.Context, text string) error
}

func (f wrongFlag) Raise(ctx context.Context, text string) error {
	if f.raise != nil {
		return f.raise(f.c.client().Flag(), ctx, text)
	}
	return f.c.client().Flag().Raise(ctx, text)
}

func (f wrongFlag) Read(ctx context.Context) (string, error) {
	if f.read != nil {
		return f.read(f.c.client().Flag(), ctx)
	}
	return f.c.client().Flag().Read(ctx)
}

func (f wrongFlag) Lower(ctx context.Context, text string) error {
	if f.lower != nil {
		return f.lower(f.c.client().Flag(), ctx, text)
	}
	return f.c.client().Flag().Lower(ctx, text)
}

var uncounted = memory.Options{Ordered: true, Uncounted: true}

// flagged makes adapters whose connections have such a flag.
func flagged(of func(c *conn) broker.Flag) func() *adapter {
	return func() *adapter { return &adapter{Options: uncounted, flag: of} }
}

var flagFaults = []fault{
	{"has no flag and does not count", flagCases[0].name, flagged(func(*conn) broker.Flag { return nil })},
	{"takes a flag that nobody has raised for one that is down", flagCases[1].name, flagged(func(c *conn) broker.Flag {
		return wrongFlag{c: c, read: func(f broker.Flag, ctx context.Context) (string, error) {
			text, err := f.Read(ctx)
			if errors.Is(err, broker.ErrNeverRaised) {
				err = nil
			}
			return text, err
		}}
	})},
	{"has a flag for each connection", flagCases[2].name, flagged(func(*conn) broker.Flag {
		return memory.NewServer(uncounted).Connect().Flag()
	})},
	{"never lowers", flagCases[3].name, flagged(func(c *conn) broker.Flag {
		return wrongFlag{c: c, lower: func(broker.Flag, context.Context, string) error { return nil }}
	})},
	{"lowers whichever flag is up", flagCases[4].name, flagged(func(c *conn) broker.Flag {
		return wrongFlag{c: c, lower: func(f broker.Flag, ctx context.Context, _ string) error {
			newest, err := f.Read(ctx)
			if err != nil {
				return err
			}
			return f.Lower(ctx, newest)
		}}
	})},
	{"lowers one raise, so that the one before it is up again", flagCases[5].name, lowersOne},
	{"takes the flag out to read it, so that others see none", flagCases[6].name, takesItOut},
	{"takes down the flag when a connection ends", flagCases[7].name, func() *adapter {
		return &adapter{Options: uncounted, drop: func(c *conn) { c.memory.RemoveFlag() }}
	}},
	{"keeps the flag in memory", flagCases[8].name, func() *adapter {
		return &adapter{Options: uncounted, kill: func(s *server) { s.memory.RemoveFlag() }}
	}},
	{"goes on with the flag when the connection is closed", flagCases[9].name, flagged(func(c *conn) broker.Flag {
		return c.memory.Connect().Flag()
	})},
}

// lowersOne keeps every raise of its own, and lowers one at a time.
func lowersOne() *adapter {
	var mu sync.Mutex
	var up []string
	return flagged(func(c *conn) broker.Flag {
		return wrongFlag{c: c,
			raise: func(f broker.Flag, ctx context.Context, text string) error {
				mu.Lock()
				defer mu.Unlock()
				up = append(up, text)
				return nil
			},
			read: func(broker.Flag, context.Context) (string, error) {
				mu.Lock()
				defer mu.Unlock()
				if len(up) == 0 {
					return "", nil
				}
				return up[len(up)-1], nil
			},
			lower: func(_ broker.Flag, _ context.Context, text string) error {
				mu.Lock()
				defer mu.Unlock()
				if len(up) > 0 && up[len(up)-1] == text {
					up = up[:len(up)-1]
				}
				return nil
			},
		}
	})()
}

// takesItOut has a second reader find nothing while a first one holds the flag.
func takesItOut() *adapter {
	var readers atomic.Int64
	met := make(chan struct{})
	return flagged(func(c *conn) broker.Flag {
		return wrongFlag{c: c, read: func(f broker.Flag, ctx context.Context) (string, error) {
			switch readers.Add(1) {
			case 1:
				<-met
			case 2:
				close(met)
				return "", nil
			}
			return f.Read(ctx)
		}}
	})()
}
