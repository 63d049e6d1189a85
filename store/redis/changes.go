package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/drainmark/drainmark/internal/backoff"
)

// listenFor is how long nothing may be heard before the server is asked whether it is still there, and how long it may
// take to answer that.
const listenFor = 10 * time.Second

// Changes implements store.Reader.
func (r *Reader) Changes(ctx context.Context) (<-chan struct{}, error) {
	changes, err := r.watchers.Watch(ctx)
	if err != nil {
		return nil, fmt.Errorf("watching for changes: %w", err)
	}
	return changes, nil
}

// listen hears the announcements of commits and claims on the reader's own server, until the reader is closed. A master
// passes them on to its replicas in the same step as the commit.
func (r *Reader) listen() {
	ctx := r.listening
	pause := backoff.Backoff{First: 20 * time.Millisecond, Max: 2 * time.Second}
	for ctx.Err() == nil {
		if heard := r.listenOnce(ctx); heard {
			pause.Reset()
		}
		_ = pause.Wait(ctx) // ends early when ctx does
	}
}

// listenOnce listens on one connection for as long as that lasts, and says whether it came about.
func (r *Reader) listenOnce(ctx context.Context) (heard bool) {
	c, err := r.connect(ctx)
	if err != nil {
		return false
	}
	defer c.close()
	if _, err := c.do(ctx, one("SUBSCRIBE", r.names.channel)); err != nil {
		return false
	}
	defer context.AfterFunc(ctx, c.close)()
	r.watchers.Signal() // something may have changed while nobody listened
	for asked := false; ; {
		if ctx.Err() != nil || c.net.SetDeadline(time.Now().Add(listenFor)) != nil {
			return true
		}
		message, err := c.in.reply(0)
		var network net.Error
		switch {
		case err == nil:
			asked = false
			if message.at(0).String() == "message" {
				r.watchers.Signal()
			}
		case errors.As(err, &network) && network.Timeout() && !asked && ctx.Err() == nil:
			asked = true
			if _, err := c.net.Write(one("PING").buf); err != nil {
				return true
			}
		default:
			return true
		}
	}
}
