package backend

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/drainmark/drainmark"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	"github.com/drainmark/drainmark/consumer"
	storememory "github.com/drainmark/drainmark/store/memory"
	"github.com/drainmark/drainmark/test/testbed"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// system is a bed with a backend, and a consumer as soon as it is to drain.
type system struct {
	*testbed.Bed
	*Backend
	replica *storememory.Replica
	reader  *countingReader
	undrain func() // stops the consumer

	feedBytes *peak
}

// peak is a gauge that remembers the most that it has shown.
type peak struct {
	prometheus.Gauge
	most atomic.Int64
}

func (p *peak) Set(value float64) {
	for {
		most := p.most.Load()
		if int64(value) <= most || p.most.CompareAndSwap(most, int64(value)) {
			break
		}
	}
	p.Gauge.Set(value)
}

func running(t *testing.T, limits Limits, partitions int, test func(*system)) {
	runningOn(t, brokermemory.Options{Partitions: partitions, Ordered: true}, limits, test)
}

// replaying is running with a broker that supplies again what the store has lost, and one partition.
func replaying(t *testing.T, limits Limits, test func(*system)) {
	runningOn(t, brokermemory.Options{Partitions: 1, Ordered: true, Replays: true}, limits, test)
}

func runningOn(t *testing.T, options brokermemory.Options, limits Limits, test func(*system)) {
	testbed.Run(t, options, func(b *testbed.Bed) {
		s := &system{Bed: b, replica: b.DB.Replica()}
		s.reader = &countingReader{Reader: s.replica.Reader()}
		var err error
		s.Backend, err = New(Config{Broker: b.Connect(), Reader: s.reader, Deployment: b.Deployment, Limits: limits, Logger: b.Logger()})
		if err != nil {
			t.Fatal(err)
		}
		s.feedBytes = &peak{Gauge: s.metrics.feedBytes}
		s.metrics.feedBytes = s.feedBytes
		b.Start(s.Backend.Run)
		test(s)
	})
}

// drain starts a consumer.
func (s *system) drain() {
	c := consumer.New(consumer.Config{
		Broker: s.Connect(), Store: s.DB.Store(), Owner: "consumer", Partitions: s.Deployment.Partitions, Logger: quiet(),
	})
	s.undrain = s.Start(c.Run)
}

func (s *system) append(log string, texts ...string) drainmark.Receipt {
	s.Helper()
	r, err := s.Append(s.Context(), log, testbed.Appends(log, texts...))
	if err != nil {
		s.Fatal(err)
	}
	return r
}

func (s *system) state(r drainmark.Receipt, wait time.Duration) State {
	s.Helper()
	status, err := s.Status(s.Context(), r, wait)
	if err != nil {
		s.Fatal(err)
	}
	return status.State
}

func TestReceiptStates(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 2, func(s *system) {
		r := s.append("log", "a", "b")
		if state := s.state(r, time.Second); state != Pending {
			s.Errorf("with no consumer it is %s", state)
		}
		if state := s.state(r, 10*time.Second); state != Stalled {
			s.Errorf("long after, with no consumer, it is %s", state)
		}
		status, _ := s.Status(s.Context(), r, 0)
		if !strings.Contains(status.Reason, "no claim on it is in force") {
			s.Errorf("the reason is %q", status.Reason)
		}
		s.drain()
		if state := s.state(r, 10*time.Second); state != Persisted {
			s.Errorf("with a consumer it is %s", state)
		}
		again, err := s.ParseReceipt(r.String(), s.append("other", "c").String())
		if err != nil || len(again.Spans) != 1 || again.Spans[0].Last != 3 { // of one partition, and neighbours
			s.Fatalf("merged: %v (%v)", again, err)
		}
		if state := s.state(again, 10*time.Second); state != Persisted {
			s.Errorf("the merged receipt is %s", state)
		}
	})
}

func TestReceiptOfRejectedAndItsRetry(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 1, func(s *system) {
		var cured atomic.Bool
		s.DB.Refuse = func(log string, m *drainmark.Message) (string, bool) {
			return "no", string(m.Body) == "bad" && !cured.Load()
		}
		s.drain()
		good, bad := s.append("log", "good"), s.append("log", "bad")
		status, err := s.Status(s.Context(), bad, 10*time.Second) // is woken
		if err != nil || status.State != Rejected || status.Reason != "no" {
			s.Errorf("the bad one is %+v (%v)", status, err)
		}
		status, err = s.Status(s.Context(), bad, 0) // looks it up
		if err != nil || status.State != Rejected || status.Reason != "no" {
			s.Errorf("asked again, the bad one is %+v (%v)", status, err)
		}
		if state := s.state(good, 10*time.Second); state != Persisted {
			s.Errorf("the good one is %s", state)
		}
		list, err := s.DeadLetters(s.Context(), LetterFilter{}, "", 10)
		if err != nil || len(list.Letters) != 1 || list.Next != "" {
			s.Fatalf("dead letters: %+v (%v)", list, err)
		}
		cured.Store(true)
		retry, err := s.Publish(s.Context(), drainmark.Record{Kind: drainmark.Retry, Target: list.Letters[0].ID})
		if err != nil {
			s.Fatal(err)
		}
		if state := s.state(retry, 10*time.Second); state != Persisted {
			s.Errorf("the retry is %s", state)
		}
		if state := s.state(bad, 10*time.Second); state != Persisted {
			s.Errorf("after the retry the bad one is %s", state)
		}
		for target, want := range map[string]drainmark.Kind{
			list.Letters[0].ID: drainmark.KindNotFound, "9-x": drainmark.KindNotFound, "": drainmark.KindNotFound, "0-what": drainmark.KindNotFound,
		} {
			if _, err := s.Publish(s.Context(), drainmark.Record{Kind: drainmark.Discard, Target: target}); drainmark.KindOf(err) != want {
				s.Errorf("discarding %q: %v", target, err)
			}
		}
	})
}

func TestDeadLettersArePagedOverPartitions(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 4, func(s *system) {
		s.DB.Refuse = func(log string, m *drainmark.Message) (string, bool) { return "no", true }
		s.drain()
		for i := range 20 {
			s.append(fmt.Sprint("log-", i), "x", "y")
		}
		receipt, _ := s.Barrier(s.Context(), nil)
		s.state(receipt, 10*time.Second)
		seen := map[string]bool{}
		pages := 0
		for after := ""; ; pages++ {
			list, err := s.DeadLetters(s.Context(), LetterFilter{}, after, 7)
			if err != nil {
				s.Fatal(err)
			}
			for _, l := range list.Letters {
				seen[l.ID] = true
			}
			if after = list.Next; after == "" {
				break
			}
		}
		if len(seen) != 40 || pages != 5 {
			s.Errorf("%d dead letters on %d pages, not 40 on 6", len(seen), pages+1)
		}
		for _, after := range []string{"x", "4.0", "-1.0", "0.x", "0.m-5", "0.mx"} {
			if _, err := s.DeadLetters(s.Context(), LetterFilter{}, after, 7); drainmark.KindOf(err) != drainmark.KindInvalid {
				s.Errorf("after %q: %v", after, err)
			}
		}
	})
}

func TestForeignAndExpiredReceipts(t *testing.T) {
	t.Parallel()
	running(t, Limits{ProducerRetention: time.Hour, KeepAlive: 10 * time.Minute}, 1, func(s *system) {
		s.drain()
		synctest.Wait() // it has read the progress
		r := s.append("log", "a")
		foreign := r
		foreign.Deployment = drainmark.DeploymentID{8}
		if _, err := s.ParseReceipt(foreign.String()); drainmark.KindOf(err) != drainmark.KindInvalidReceipt {
			s.Errorf("a foreign receipt: %v", err)
		}
		time.Sleep(2 * time.Hour)
		stranger := drainmark.NewReceipt(r.Deployment, r.IssuedAt, drainmark.Span{Producer: drainmark.NewProducerID(), First: 1, Last: 1})
		stranger.Clocks = r.Clocks
		if _, err := s.Status(s.Context(), stranger, 0); drainmark.KindOf(err) != drainmark.KindReceiptExpired {
			s.Errorf("an old receipt of an unknown producer: %v", err)
		}
		if state := s.state(r, 0); state != Persisted { // this producer has been kept alive by its markers
			s.Errorf("an old receipt of a producer that is alive is %s", state)
		}
	})
}

func TestReadWithReceiptWaitsForTheReplica(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 1, func(s *system) {
		s.drain()
		s.state(s.append("log", "a"), time.Minute)
		s.replica.Pause()
		r := s.append("log", "b")
		time.Sleep(time.Second)
		if _, err := s.Messages(s.Context(), "log", 0, 10, &r, 3*time.Second); drainmark.KindOf(err) != drainmark.KindNotReached {
			s.Errorf("from a replica that lags: %v", err)
		}
		if page, err := s.Messages(s.Context(), "log", 0, 10, nil, 0); err != nil || len(page.Messages) != 1 {
			s.Errorf("without the receipt: %d messages (%v)", len(page.Messages), err)
		}
		go func() {
			time.Sleep(time.Second)
			s.replica.Resume()
		}()
		page, err := s.Messages(s.Context(), "log", 0, 10, &r, 10*time.Second)
		if err != nil || len(page.Messages) != 2 {
			s.Errorf("when it has caught up: %d messages (%v)", len(page.Messages), err)
		}
		if _, err := s.Messages(s.Context(), "nothing", 0, 10, nil, 0); drainmark.KindOf(err) != drainmark.KindNotFound {
			s.Errorf("of an unknown log: %v", err)
		}
	})
}

func TestBarrierAndBacklog(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 2, func(s *system) {
		for i := range 10 {
			s.append(fmt.Sprint("log-", i), "x")
		}
		barrier, err := s.Barrier(s.Context(), nil)
		if err != nil || len(barrier.Spans) != 2 {
			s.Fatalf("the barrier is %+v (%v)", barrier, err)
		}
		if state := s.state(barrier, time.Second); state != Pending {
			s.Errorf("with no consumer the barrier is %s", state)
		}
		backlog, err := s.Backlog(s.Context())
		if err != nil || backlog[0].Pending.Records+backlog[1].Pending.Records != 12 || backlog[0].Claim != nil ||
			backlog[1].Backend != barrier.Spans[1].Producer {
			s.Errorf("the backlog is %+v (%v)", backlog, err)
		}
		time.Sleep(10 * time.Second)
		if backlog, _ = s.Backlog(s.Context()); backlog[0].Stalled == "" || backlog[0].OldestAt.IsZero() {
			s.Errorf("with no consumer for long the backlog is %+v", backlog[0])
		}
		s.drain()
		if state := s.state(barrier, 10*time.Second); state != Persisted {
			s.Errorf("with a consumer the barrier is %s", state)
		}
		backlog, err = s.Backlog(s.Context())
		if err != nil || backlog[0].Pending.Records != 0 || backlog[0].Claim == nil || backlog[0].Stalled != "" {
			s.Errorf("drained, the backlog is %+v (%v)", backlog[0], err)
		}
		one, err := s.Barrier(s.Context(), []string{"log-1", "log-1"})
		if err != nil || len(one.Spans) != 1 || one.Spans[0].Partition != drainmark.PartitionOf("log-1", 2) {
			s.Errorf("a barrier for one log is %+v (%v)", one, err)
		}
	})
}

// However many wait, a commit costs the same few reads of the store.
func TestWaitersCostNoReads(t *testing.T) {
	t.Parallel()
	reads := map[int]int64{}
	for _, waiters := range []int{1, 2000} {
		running(t, Limits{Poll: time.Hour}, 1, func(s *system) {
			receipt := s.append("log", "a", "b", "c")
			states := make(chan State, waiters)
			for i := range waiters {
				span := receipt.Spans[0]
				span.First += uint64(i % 3)
				span.Last = span.First
				go func() { states <- s.state(s.receipt(span), time.Minute) }()
			}
			synctest.Wait()
			before := s.reader.progress.Load() + s.reader.rejected.Load() + s.reader.messages.Load()
			s.drain()
			for range waiters {
				if state := <-states; state != Persisted {
					s.Errorf("a waiter got %s", state)
				}
			}
			reads[waiters] = s.reader.progress.Load() + s.reader.rejected.Load() + s.reader.messages.Load() - before
		})
	}
	// The number of notifications that merge into one fetch differs from run to run by a few. It must not grow with the
	// waiters.
	if reads[2000] > reads[1]+10 {
		t.Errorf("one waiter costs %d reads, 2,000 cost %d", reads[1], reads[2000])
	}
}

func TestTooManyWaiters(t *testing.T) {
	t.Parallel()
	running(t, Limits{Waiters: 1}, 1, func(s *system) {
		r := s.append("log", "a")
		done := make(chan State)
		go func() { done <- s.state(r, time.Minute) }()
		synctest.Wait()
		if _, err := s.Status(s.Context(), r, time.Minute); drainmark.KindOf(err) != drainmark.KindTooMany || !strings.Contains(err.Error(), "limit (waiters) is 1") {
			s.Errorf("the second waiter: %v", err)
		}
		s.drain()
		if state := <-done; state != Persisted {
			s.Errorf("the first waiter got %s", state)
		}
	})
}

// A gap in a producer's sequences keeps the barrier from being reached, until it is declared lost.
func TestBarrierIsNotReachedOverAHole(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 1, func(s *system) {
		s.drain()
		s.append("log", "a")
		s.publishers[0].mu.Lock()
		s.publishers[0].next += 3 // as if the broker had lost three records
		s.publishers[0].mu.Unlock()
		s.append("log", "b")
		barrier, err := s.Barrier(s.Context(), nil)
		if err != nil {
			s.Fatal(err)
		}
		status, err := s.Status(s.Context(), barrier, time.Minute)
		if err != nil || status.State != Stalled || status.Missing != 3 || !strings.Contains(status.Reason, "did not deliver 3") {
			s.Fatalf("the barrier is %+v (%v)", status, err)
		}
		list, err := s.DeadLetters(s.Context(), LetterFilter{}, "", 10)
		if err != nil || len(list.Letters) != 1 || list.Letters[0].Span.First != 2 || list.Letters[0].Span.Last != 4 {
			s.Fatalf("the dead letters are %+v (%v)", list, err)
		}
		if _, err := s.Publish(s.Context(), drainmark.Record{Kind: drainmark.Retry, Target: list.Letters[0].ID}); drainmark.KindOf(err) != drainmark.KindConflict {
			s.Errorf("retrying what is missing: %v", err)
		}
		discard, err := s.Publish(s.Context(), drainmark.Record{Kind: drainmark.Discard, Target: list.Letters[0].ID})
		if err != nil {
			s.Fatal(err)
		}
		s.state(discard, time.Minute)
		if state := s.state(barrier, time.Minute); state != Persisted {
			s.Errorf("after the hole was declared lost, the barrier is %s", state)
		}
		lost := s.receipt(list.Letters[0].Span)
		if status, err := s.Status(s.Context(), lost, 0); err != nil || status.State != Rejected {
			s.Errorf("who holds the receipt of what was lost is told %+v (%v)", status, err)
		}
	})
}

// counting follows a log whose messages say their positions.
type counting struct {
	Subscription
	s    *system
	last uint64 // position of the message that was read last
}

func (s *system) counting(after uint64) *counting {
	s.Helper()
	sub, err := s.Subscribe(s.Context(), "log", after)
	if err != nil {
		s.Fatal(err)
	}
	s.AtEnd(sub.Close)
	return &counting{sub, s, after}
}

// read takes what comes until a position, without gaps.
func (c *counting) read(until uint64) {
	c.s.Helper()
	for c.last < until {
		messages, err := c.Next(c.s.Context())
		if err != nil {
			c.s.Fatal(err)
		}
		for _, m := range messages {
			if c.last++; m.Position != c.last || string(m.Body) != fmt.Sprint(m.Position) {
				c.s.Fatalf("position %d has %q where %d is due", m.Position, m.Body, c.last)
			}
		}
	}
}

func TestFollowingALog(t *testing.T) {
	t.Parallel()
	running(t, Limits{FeedMessages: 10, SubscriberLag: 2000}, 1, func(s *system) {
		s.drain()
		early := s.counting(0) // the log does not exist yet
		slow := s.counting(0)
		synctest.Wait()
		sent := uint64(0)
		send := func(n int) {
			var texts []string
			for range n {
				sent++
				texts = append(texts, fmt.Sprint(sent))
			}
			s.state(s.append("log", texts...), time.Minute)
		}
		send(3)
		early.read(3)
		slow.read(3)
		send(50)
		early.read(53)
		late := s.counting(5) // older than what is in memory
		late.read(53)
		for range 5 {
			send(900)
			early.read(sent)
		}
		if _, err := slow.Next(s.Context()); !errors.Is(err, ErrTooSlow) {
			s.Errorf("a subscriber that is 4,550 messages behind gets %v", err)
		}
		resumed := s.counting(slow.last)
		resumed.read(sent)
		clearing, err := s.Publish(s.Context(), drainmark.Record{Kind: drainmark.Clear, Log: "log", AcceptedAt: time.Now()})
		if err != nil {
			s.Fatal(err)
		}
		s.state(clearing, time.Minute)
		cleared := s.counting(0)
		cleared.last = sent
		send(2)
		cleared.read(sent)
		early.read(sent)
	})
}

// A follower skips what was cleared before the replica showed it.
func TestFollowingOverAClear(t *testing.T) {
	t.Parallel()
	running(t, Limits{}, 1, func(s *system) {
		s.drain()
		first, err := s.Subscribe(s.Context(), "log", 0)
		if err != nil {
			s.Fatal(err)
		}
		defer first.Close()
		read := func(sub Subscription, want ...uint64) {
			s.Helper()
			for len(want) > 0 {
				messages, err := sub.Next(s.Context())
				if err != nil {
					s.Fatal(err)
				}
				for _, m := range messages {
					if len(want) == 0 || m.Position != want[0] {
						s.Fatalf("position %d came where %v are due", m.Position, want)
					}
					want = want[1:]
				}
			}
		}
		s.state(s.append("log", "1", "2", "3"), time.Minute)
		read(first, 1, 2, 3)
		s.replica.Pause()
		s.append("log", "4", "5", "6")
		if _, err := s.Publish(s.Context(), drainmark.Record{Kind: drainmark.Clear, Log: "log"}); err != nil {
			s.Fatal(err)
		}
		s.append("log", "7", "8")
		time.Sleep(5 * time.Second)
		s.replica.Resume()
		read(first, 7, 8)
		second, err := s.Subscribe(s.Context(), "log", 7)
		if err != nil {
			s.Fatal(err)
		}
		defer second.Close()
		read(second, 8)
	})
}

// A commit costs one read of a log, however many follow it.
func TestSubscribersCostNoReads(t *testing.T) {
	t.Parallel()
	reads := map[int]int64{}
	for _, subscribers := range []int{1, 500} {
		running(t, Limits{Poll: time.Hour}, 1, func(s *system) {
			s.drain()
			s.state(s.append("log", "first"), time.Minute)
			got := make(chan int, subscribers)
			for range subscribers {
				sub, err := s.Subscribe(s.Context(), "log", 1)
				if err != nil {
					s.Fatal(err)
				}
				defer sub.Close()
				go func() {
					messages, _ := sub.Next(s.Context())
					got <- len(messages)
				}()
			}
			synctest.Wait()
			before := s.reader.messages.Load()
			s.append("log", "second")
			for range subscribers {
				if n := <-got; n != 1 {
					s.Errorf("a subscriber got %d messages", n)
				}
			}
			synctest.Wait()
			reads[subscribers] = s.reader.messages.Load() - before
		})
	}
	if reads[500] > reads[1] {
		t.Errorf("with one subscriber a commit costs %d reads, with 500 %d", reads[1], reads[500])
	}
}

func TestTooManySubscribers(t *testing.T) {
	t.Parallel()
	running(t, Limits{Subscribers: 1}, 1, func(s *system) {
		first, err := s.Subscribe(s.Context(), "log", 0)
		if err != nil {
			s.Fatal(err)
		}
		if _, err := s.Subscribe(s.Context(), "log", 0); drainmark.KindOf(err) != drainmark.KindTooMany {
			s.Errorf("the second: %v", err)
		}
		first.Close()
		first.Close()
		second, err := s.Subscribe(s.Context(), "other", 0)
		if err != nil {
			s.Fatal(err)
		}
		second.Close()
	})
}
