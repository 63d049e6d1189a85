package api

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/auth/quota"
)

// from returns the address of whoever makes a request.
func (h *handler) from(r *http.Request) netip.Addr {
	return h.proxies.Client(r.RemoteAddr, r.Header["X-Forwarded-For"])
}

// failedLogin notes a request that nobody known makes, which failed with err. It returns another error if there were too
// many from its address, nil if not.
func (h *handler) failedLogin(r *http.Request, err error) error {
	if drainmark.KindOf(err) != drainmark.KindUnauthenticated {
		return nil
	}
	return h.accounts.Failed(h.from(r))
}

// charge begins to count what a request takes, itself first. Whoever follows a log is told when to come back.
func (h *handler) charge(rt route, w http.ResponseWriter, r *request) error {
	if r.use = h.accounts.Begin(r.who, h.from(r.Request)); r.use == nil {
		return nil
	}
	err := r.use.Spend(quota.Requests, 1, 1)
	r.use.Tell(w.Header())
	return err
}

// chargeAppend counts what an append takes besides its body.
func (h *handler) chargeAppend(r *request, log string, records []drainmark.Record) error {
	if r.use == nil {
		return nil
	}
	bytes, keys := 0, int64(0)
	for i := range records {
		bytes += records[i].EncodedBound()
		if records[i].Key != "" {
			keys++
		}
	}
	if err := r.use.Spend(quota.Keys, keys, keys); err != nil {
		return err
	}
	if err := h.chargeLog(r, log); err != nil {
		return err
	}
	return r.use.Hold(quota.Waiting, int64(bytes))
}

// chargeLetters refuses an append of somebody who has as many open dead letters as they may have.
func (h *handler) chargeLetters(r *request) error {
	return r.use.Letters(func(most int64) (n int64, again time.Duration) {
		return h.service.OpenLetters(r.Context(), principalOf(r), most)
	})
}

// existsTime is how long an append waits to be told whether its log exists.
const existsTime = time.Second

// chargeLog counts a log that nobody has written to before, for whoever has a limit of them. One of which the store does
// not say whether it exists counts too: or a store that is away would open the door.
func (h *handler) chargeLog(r *request, log string) error {
	if !r.use.Limited(quota.NewLogs) || h.known.has(log) {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), existsTime)
	defer cancel()
	page, err := h.service.Messages(ctx, log, maxPosition, 1, nil, 0)
	page.Release()
	if err != nil {
		if err := r.use.Spend(quota.NewLogs, 1, 1); err != nil {
			return err
		}
	}
	h.known.add(log)
	return nil
}

// maxKnown is how many logs are known at least. Twice as many are known at most.
const maxKnown = 10_000

// knownLogs remembers logs that exist, or soon will. The zero value remembers none. Its methods may be called
// concurrently.
type knownLogs struct {
	mu         sync.Mutex
	young, old map[string]struct{}
}

func (k *knownLogs) has(log string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.young[log]; ok {
		return true
	}
	_, ok := k.old[log]
	if ok {
		k.put(log)
	}
	return ok
}

func (k *knownLogs) add(log string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.put(log)
}

// put keeps a log for longer than those before it. Called with mu held.
func (k *knownLogs) put(log string) {
	if k.young == nil || len(k.young) == maxKnown {
		k.young, k.old = map[string]struct{}{}, k.young
	}
	k.young[log] = struct{}{}
}
