package memory

import (
	"context"
	"fmt"

	"github.com/drainmark/drainmark/broker"
)

// Flag implements broker.Broker: there is one if the backlog is not exact.
func (c *Client) Flag() broker.Flag {
	if !c.server.options.Uncounted {
		return nil
	}
	return flag{c}
}

// flag implements broker.Flag.
type flag struct{ client *Client }

func (f flag) Raise(ctx context.Context, text string) error {
	return f.during(ctx, "raising", func(s *Server) error {
		s.raised, s.lowered = text, false
		return nil
	})
}

func (f flag) Read(ctx context.Context) (text string, err error) {
	err = f.during(ctx, "reading", func(s *Server) error {
		switch {
		case s.raised == "":
			return broker.ErrNeverRaised
		case !s.lowered:
			text = s.raised
		}
		return nil
	})
	return text, err
}

func (f flag) Lower(ctx context.Context, text string) error {
	return f.during(ctx, "lowering", func(s *Server) error {
		s.lowered = s.lowered || s.raised == text
		return nil
	})
}

// during does something under the server's lock, if the connection still is.
func (f flag) during(ctx context.Context, what string, do func(*Server) error) error {
	s := f.client.server
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := f.client.use(ctx, 0)
	if err == nil {
		err = do(s)
	}
	if err != nil {
		return fmt.Errorf("%s the flag: %w", what, err)
	}
	return nil
}

// RemoveFlag takes away all that is known of the flag, as an operator who deletes it does.
func (s *Server) RemoveFlag() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raised, s.lowered = "", false
}
