package consumer

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	brokermemory "github.com/drainmark/drainmark/broker/memory"
	storememory "github.com/drainmark/drainmark/store/memory"
)

// The others take what a consumer gives up in order much sooner than its lease would have expired.
func TestHandsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const partitions = 8
		server, db := brokermemory.NewServer(brokermemory.Options{Partitions: partitions, Ordered: true}), storememory.NewDB()
		reader := db.Reader()
		defer reader.Close()
		begin := func(owner string) (stop func()) {
			client, master := server.Connect(), db.Store()
			c := New(Config{Broker: client, Store: master, Owner: owner, Partitions: partitions, Logger: slog.New(slog.DiscardHandler)})
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				c.Run(ctx)
				_ = client.Close()
				_ = master.Close()
			}()
			return func() { cancel(); <-ended }
		}
		// held waits until so many consumers hold all partitions, evenly, and returns how long that took.
		held := func(consumers int) time.Duration {
			for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
				synctest.Wait()
				claims, err := reader.Claims(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				counts := map[string]int{}
				for _, c := range claims {
					counts[c.Owner]++
				}
				even := len(claims) == partitions && len(counts) == consumers
				for _, n := range counts {
					even = even && n == partitions/consumers
				}
				if even {
					return time.Since(begun)
				}
				if time.Since(begun) > time.Minute {
					t.Fatalf("after a minute the partitions are held by %v", counts)
				}
			}
		}
		var stops []func()
		for i := range 4 {
			stops = append(stops, begin(fmt.Sprint("consumer-", i)))
			if i != 2 { // 8 partitions are not shared evenly by three
				held(i + 1)
			}
		}
		stops[0]()
		stops[1]()
		if took := held(2); took > time.Second {
			t.Errorf("what was given up in order was taken after %v; the lease is 5s", took)
		}
		stops[2]()
		stops[3]()
	})
}
