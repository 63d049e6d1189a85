package sqlite

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/drainmark/drainmark/store"
)

const (
	// pollEvery is how often a file is looked at for commits of other processes.
	pollEvery = 10 * time.Millisecond
	// reopenEvery is how often a file is opened at most that cannot be, though it is there: that costs more than a look.
	reopenEvery = time.Second
)

// hub tells the readers of a file in this process what happens to it: at once what the process's own stores did, and
// by looking again and again what other processes did.
type hub struct {
	path string
	open func(ctx context.Context) (*conn, error)
	uses int // guarded by hubs.mu

	mu      sync.Mutex
	readers map[*Reader]struct{} // those who watch
	stop    func()               // ends the polling, nil while nobody watches
}

// hubs has one hub for each file that is open in this process.
var hubs struct {
	mu   sync.Mutex
	open map[string]*hub
}

// attach returns the file's hub, and release gives it back.
func attach(path string) *hub {
	hubs.mu.Lock()
	defer hubs.mu.Unlock()
	if hubs.open == nil {
		hubs.open = map[string]*hub{}
	}
	h, ok := hubs.open[path]
	if !ok {
		h = &hub{path: path, readers: map[*Reader]struct{}{}}
		h.open = func(ctx context.Context) (*conn, error) { return openReading(ctx, path, nil) }
		hubs.open[path] = h
	}
	h.uses++
	return h
}

func (h *hub) release() {
	hubs.mu.Lock()
	defer hubs.mu.Unlock()
	if h.uses--; h.uses == 0 {
		delete(hubs.open, h.path)
	}
}

// signal tells the readers that something may have changed.
func (h *hub) signal() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for r := range h.readers {
		r.watchers.Signal()
	}
}

// watch tells r from now on, until it is closed. With the first reader the polling begins.
func (h *hub) watch(r *Reader) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.closed() {
		return
	}
	h.readers[r] = struct{}{}
	if h.stop != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.poll(ctx)
	}()
	h.stop = func() {
		cancel()
		<-ended
	}
}

// unwatch tells r no more. With the last reader the polling ends.
func (h *hub) unwatch(r *Reader) {
	h.mu.Lock()
	delete(h.readers, r)
	stop := h.stop
	if len(h.readers) > 0 || stop == nil {
		h.mu.Unlock()
		return
	}
	h.stop = nil
	h.mu.Unlock()
	stop() // without the lock, which the polling needs to signal
}

// poll signals whenever another connection has changed the file, until ctx ends.
func (h *hub) poll(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var c *conn
	var reopen time.Time // not before
	seen := int64(-1)
	defer func() {
		if c != nil {
			c.close()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if c == nil {
			if time.Now().Before(reopen) {
				continue
			}
			opened, err := h.open(ctx)
			switch {
			case errors.Is(err, store.ErrNotFound): // there is no store yet
				continue
			case err != nil: // it cannot be read, which the reads will say
				reopen = time.Now().Add(reopenEvery)
				continue
			}
			c = opened
		}
		// It changes when another connection has committed, and costs a look at shared memory.
		version, err := c.number(context.Background(), "PRAGMA data_version")
		if err != nil || c.moved() {
			c.close()
			c, seen = nil, -1
			continue
		}
		if version != seen {
			seen = version
			h.signal()
		}
	}
}
