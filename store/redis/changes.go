package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	goredis "github.com/redis/go-redis/v9"

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
	ctx := r.client.life.ctx
	pause := backoff.Backoff{First: 20 * time.Millisecond, Max: 2 * time.Second}
	for ctx.Err() == nil {
		if heard := r.listenOnce(ctx); heard {
			pause.Reset()
		}
		_ = pause.Wait(ctx) // ends early when ctx does
	}
}

// listenOnce listens on one connection for as long as that lasts, and says whether it came about. The connection does
// not belong to the reader's client, whose connections go when a call fails.
func (r *Reader) listenOnce(ctx context.Context) (heard bool) {
	client := goredis.NewClient(r.target.endpoint(fixed(r.address)).options(r.client.life, 1, r.options.Timeout))
	defer func() { _ = client.Close() }()
	subscription := client.Subscribe(ctx)
	defer func() { _ = subscription.Close() }()
	if subscription.Subscribe(ctx, r.names.channel) != nil {
		return false
	}
	for asked := false; ctx.Err() == nil; {
		message, err := subscription.ReceiveTimeout(ctx, listenFor)
		var network net.Error
		switch {
		case err == nil:
			asked = false
			if _, pong := message.(*goredis.Pong); !pong { // it is the beginning, or an announcement
				heard = true
				r.watchers.Signal() // also at the beginning: something may have changed while nobody listened
			}
		case errors.As(err, &network) && network.Timeout() && !asked:
			asked = true
			if subscription.Ping(ctx) != nil {
				return heard
			}
		default:
			return heard // the library has tried to connect once more by itself, but does not say whether it could
		}
	}
	return heard
}
