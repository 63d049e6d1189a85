package consumer

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	brokermemory "github.com/drainmark/drainmark/broker/memory"
	"github.com/drainmark/drainmark/store"
	storememory "github.com/drainmark/drainmark/store/memory"
)

func TestWhatAConsumerWaitsFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		owners string
		claims string // the owner of each partition, - for none
		want   string
	}{
		{"nothing while it is alone", "me", "me me me me", ""},
		{"nothing while some are free", "me you", "you you - -", ""},
		{"nothing when shares are even", "me you", "me me you you", ""},
		{"nothing when they are as even as can be", "me you", "me you you", ""},
		{"what another has too much of", "me you", "you you you you", "0 you, 1 you, 2 you, 3 you"},
		{"what one of two others has too much of", "he me you", "me he he you you you", "3 you, 4 you, 5 you"},
		{"what somebody holds who is not alive", "me", "me me you me", "2 you (dead)"},
		{"that too when its own share is full", "me you", "me me he you you -", "2 he (dead)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			group := store.Group{Owners: strings.Fields(c.owners)}
			claims := strings.Fields(c.claims)
			for p, owner := range claims {
				if owner != "-" {
					group.Claims = append(group.Claims, store.Claim{Partition: p, Owner: owner})
				}
			}
			var got []string
			waits := waitsFor("me", len(claims), group)
			for p := range len(claims) {
				if w, ok := waits[p]; ok {
					got = append(got, fmt.Sprintf("%d %s%s", p, w.holder, map[bool]string{false: " (dead)"}[w.alive]))
				}
			}
			if strings.Join(got, ", ") != c.want {
				t.Errorf("it waits for %q, want %q", got, c.want)
			}
		})
	}
}

// A consumer that hangs goes on saying that it lives, and keeps everything.
func TestWhoWaitsForLongSaysForWhom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server, db := brokermemory.NewServer(brokermemory.Options{Partitions: 4, Ordered: true}), storememory.NewDB()
		master := db.Store()
		for p := range 4 {
			if _, err := master.Claim(t.Context(), store.Claim{Partition: p, Owner: "hangs", Token: uint64(p + 1)}, 5*time.Second); err != nil {
				t.Fatal(err)
			}
		}
		lives, dies := context.WithCancel(t.Context())
		go func() {
			for ; lives.Err() == nil; time.Sleep(time.Second) {
				_, _ = master.Heartbeat(lives, "hangs", 5*time.Second)
			}
		}()
		var logged journal
		c := New(Config{Broker: server.Connect(), Store: db.Store(), Owner: "waits", Partitions: 4, Logger: logged.logger()})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { defer close(ended); c.Run(ctx) }()
		expect := func(after time.Duration, want map[string]int) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			got := map[string]int{}
			text := logged.take()
			for says := range want {
				got[says] = strings.Count(text, says)
			}
			if !maps.Equal(got, want) {
				t.Errorf("after %s more it logged %v, want %v:\n%s", after, got, want, text)
			}
		}
		const waits, taken = "level=WARN msg=\"waiting for partitions", "had waited for is taken over"
		expect(15*time.Second, map[string]int{waits: 0})
		expect(10*time.Second, map[string]int{waits: 1, "partitions=\"[0 1 2 3]\" held_by=hangs alive=true waited=20s": 1})
		expect(9*time.Minute, map[string]int{waits: 0})
		expect(time.Hour-9*time.Minute, map[string]int{waits: 6})
		dies()
		expect(10*time.Second, map[string]int{waits: 0, taken: 4, "held_by=hangs": 4})
		expect(time.Hour, map[string]int{waits: 0, taken: 0})
		cancel()
		<-ended
	})
}

// A partition that is handed over in order, or taken when a lease has ended, is not worth a line.
func TestAnOrderlyHandOverIsNotLogged(t *testing.T) {
	crowded(t, 3, func([]*gate) {}, func(c *crowd) {
		for range 5 {
			c.gates[1].set(func(g *gate) { g.cut = true })
			c.disconnect(1)
			c.wait(30 * time.Second)
			c.gates[1].set(func(g *gate) { g.cut = false })
			c.wait(2 * time.Minute)
		}
		if text := c.logged.take(); strings.Contains(text, "waiting for partitions") || strings.Contains(text, "had waited") {
			t.Errorf("logged:\n%s", text)
		}
	})
}

// journal is a log that may be read while it is written.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(line)
}

// take returns what was logged since it was called last.
func (j *journal) take() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	defer j.text.Reset()
	return j.text.String()
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }
