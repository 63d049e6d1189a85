package planted

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/broker"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/test/testbed"
)

const log = "guestbook"

var forgets = brokermemory.Options{Ordered: true}

// scenario is what shows a fault.
type scenario struct {
	broker brokermemory.Options
	harm   func(*world) string
}

// scenarios has a function for each fault that says what harm was done, or "" for none.
var scenarios = map[string]scenario{
	"acknowledge-before-commit":   {forgets, killedConsumer},
	"answer-before-confirm":       {forgets, brokerGone},
	"lose-last-record":            {forgets, reconnected},
	"barrier-without-epoch-check": {forgets, overtakenByFence},
	"trust-stale-replica":         {forgets, readWithReceipt},
	"clear-bypasses-queue":        {forgets, clearedWithBacklog},
	"skip-owner-check":            {forgets, pausedConsumer},
	"forget-idempotency-keys":     {forgets, keyAfterRestart},
	"barrier-of-one-partition":    {brokermemory.Options{Ordered: true, Partitions: 2}, onePartitionHeld},
	"tail-skips":                  {forgets, tailBehindPage},
	"positions-reused":            {forgets, clearedLog},
	"short-page":                  {forgets, fullPage},
	"headers-of-the-first":        {forgets, differentHeaders},
	"cursor-apart":                {forgets, commitFailed},
	"trim-one-too-many":           {forgets, removed(drainmark.Trim, 1, "2:two 3:three")},
	"erasure-leaves-body":         {forgets, removed(drainmark.Erase, 2, "1:one 2: 3:three")},
	"trimmed-comes-back":          {forgets, removed(drainmark.Trim, 2, "3:three")},
	"deletion-restarts-positions": {forgets, deletedLog},
}

func TestEachFaultDoesItsHarm(t *testing.T) {
	t.Parallel()
	for _, f := range Faults() {
		s, ok := scenarios[f.Name]
		if !ok {
			t.Errorf("%s: nothing shows it", f.Name)
			continue
		}
		t.Run(f.Name+" is seen", func(t *testing.T) {
			t.Parallel()
			inWorld(t, f.Name, s.broker, func(w *world) {
				if harm := s.harm(w); harm == "" {
					w.Error("no harm was done")
				} else {
					w.Log(harm)
				}
			})
		})
		t.Run("without "+f.Name+" nothing is seen", func(t *testing.T) {
			t.Parallel()
			inWorld(t, "", s.broker, func(w *world) {
				if harm := s.harm(w); harm != "" {
					w.Error(harm)
				}
			})
		})
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	_, err := New("no-such-fault", nil)
	if drainmark.KindOf(err) != drainmark.KindMisconfigured || !strings.Contains(err.Error(), Variable) {
		t.Errorf("an unknown name gives %v", err)
	}
	for _, f := range Faults() {
		p, newErr := New(f.Name, nil)
		if newErr != nil || p.Fault().Name != f.Name || f.Breaks == "" {
			t.Errorf("%s: %v", f.Name, newErr)
		}
		if !strings.Contains(err.Error(), f.Name) {
			t.Errorf("the error does not name %s", f.Name)
		}
	}
}

func TestWithoutAFaultEverythingStaysWhatItIs(t *testing.T) {
	t.Parallel()
	inWorld(t, "", forgets, func(w *world) {
		p, client, queue := w.process()
		if queue != broker.Broker(client) || p.Fault().Name != "" {
			w.Error("the broker is another")
		}
		master, reader := w.DB.Store(), w.DB.Reader()
		if p.Store(master) != store.Store(master) || p.Reader(reader) != store.Reader(reader) {
			w.Error("the store is another")
		}
		if b := (&backend.Backend{}); p.Service(b) != backend.Service(b) {
			w.Error("the service is another")
		}
	})
}

// killedConsumer kills a consumer that has received and not committed, and looks what its successor gets.
func killedConsumer(w *world) string {
	w.backend().append(log, "a")
	_, client, queue := w.process()
	if got := receive(w, queue); len(got) != 1 {
		w.Fatalf("received %v", got)
	}
	client.Drop()
	_, _, successor := w.process()
	if got := receive(w, successor); len(got) == 0 {
		return "the successor of a killed consumer gets nothing"
	}
	return ""
}

// receive opens the partition and returns what comes first, nothing if nothing comes.
func receive(w *world, queue broker.Broker) []broker.Delivery {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), time.Second)
	defer cancel()
	r, err := queue.Open(ctx, 0, "", false)
	if err != nil {
		w.Fatal(err)
	}
	deliveries, err := r.Receive(ctx, 64)
	if err != nil && ctx.Err() == nil {
		w.Fatal(err)
	}
	return deliveries
}

// A broker that keeps its log does not forget what is acknowledged too early.
func TestReplayRepairsEarlyAcknowledgement(t *testing.T) {
	t.Parallel()
	inWorld(t, "acknowledge-before-commit", brokermemory.Options{Replays: true}, func(w *world) {
		if harm := killedConsumer(w); harm != "" {
			w.Error(harm)
		}
	})
}

// brokerGone publishes to a broker that is not there.
func brokerGone(w *world) string {
	_, client, queue := w.process()
	client.Drop()
	batch := drainmark.Batch{First: 1, Records: []drainmark.Record{{Kind: drainmark.Append, Log: log}}}
	err := queue.Publish(w.Context(), 0, broker.Batch{
		Header: broker.Header{First: 1, Last: 1}, Payload: drainmark.EncodeBatch(nil, &batch),
	})
	synctest.Wait()
	_, _, other := w.process()
	if got := receive(w, other); err == nil && len(got) == 0 {
		return "a batch is confirmed that the broker does not have"
	}
	return ""
}

// While the broker works, an answer that is given too early harms nobody, and the order stays.
func TestEarlyAnswersKeepTheOrder(t *testing.T) {
	t.Parallel()
	inWorld(t, "answer-before-confirm", forgets, func(w *world) {
		b := w.backend()
		w.consumer("consumer")
		for i := range 20 {
			b.append(log, fmt.Sprint(i))
		}
		b.persist(b.barrier())
		if got, want := b.read(log), "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19"; got != want {
			w.Errorf("the log holds %s", got)
		}
	})
}

// reconnected lets a consumer open its partition again before it has committed.
func reconnected(w *world) string {
	b := w.backend()
	r := b.append(log, "a", "b", "c")
	w.consumer("consumer", func(s store.Store) store.Store { return &failsOnce{Store: s} })
	b.persist(r)
	if got := b.read(log); got != "a b c" {
		return fmt.Sprintf("a b c are said to be persisted, and the log holds %s", got)
	}
	return ""
}

// overtakenByFence lets a barrier of one backend come behind what another one has accepted.
func overtakenByFence(w *world) string {
	a, b := w.backend(), w.backend()
	a.append(log, "a")
	barrier := b.barrier()
	w.consumer("consumer")
	b.persist(barrier)
	harm := ""
	if b.read(log) != "a" {
		harm = "a barrier is reached without what another backend had accepted"
	}
	a.persist(a.append(log, "b")) // overtaken batches come after all, and everything goes on
	if got := b.read(log); got != "a b" {
		w.Errorf("in the end the log holds %q", got)
	}
	return harm
}

// The same broker does no harm if it says what it does: then the backend looks at the lease token.
func TestEpochCheckHelps(t *testing.T) {
	t.Parallel()
	honest := Fault{Name: "honest", broker: func(b broker.Broker) broker.Broker { return overtaking{Broker: b} }}
	inWorld(t, "", forgets, func(w *world) {
		w.honest = &honest
		if harm := overtakenByFence(w); harm != "" {
			w.Error(harm)
		}
	})
}

// Overtaken batches are acknowledged only when all of them have been committed.
func TestOvertakenIsAcknowledgedInTheEnd(t *testing.T) {
	t.Parallel()
	inWorld(t, "barrier-without-epoch-check", forgets, func(w *world) {
		a, b := w.backend(), w.backend()
		a.append(log, "a")
		b.append(log, "b")
		_, client, queue := w.process()
		r, err := queue.Open(w.Context(), 0, "", false)
		if err != nil {
			w.Fatal(err)
		}
		var order []broker.Delivery
		for len(order) < 2 {
			deliveries, err := r.Receive(w.Context(), 64)
			if err != nil {
				w.Fatal(err)
			}
			order = append(order, deliveries...)
			if err := r.Ack(w.Context(), deliveries[len(deliveries)-1]); err != nil {
				w.Fatal(err)
			}
			held := 2 - len(order)
			if left, _ := client.Backlog(w.Context(), 0, drainmark.Progress{}); (left.InFlight.Records > 0) != (held > 0) {
				w.Errorf("with %d held back, %d are not acknowledged", held, left.InFlight.Records)
			}
		}
		if order[0].Tag < order[1].Tag {
			w.Error("nothing was overtaken")
		}
	})
}

// readWithReceipt reads a log, and once more behind a write.
func readWithReceipt(w *world) string {
	b := w.backend()
	w.consumer("consumer")
	first := b.append(log, "a")
	b.page(log, 1000, &first)
	second := b.append(log, "b")
	if got := bodies(b.page(log, 1000, &second)); got != "a b" {
		return fmt.Sprintf("a read with the receipt of b shows %s", got)
	}
	return ""
}

// clearedWithBacklog clears a log while something accepted waits to be persisted.
func clearedWithBacklog(w *world) string {
	b := w.backend()
	shut := make(chan struct{}, 1)
	w.consumer("consumer", func(s store.Store) store.Store { return gate{s, shut} })
	b.persist(b.append(log, "a"))
	shut <- struct{}{}
	b.append(log, "b")
	cleared := b.clear(log)
	<-shut
	b.persist(cleared)
	if got := b.read(log); got != "" {
		return fmt.Sprintf("after a clear the log holds %s, which was accepted before it", got)
	}
	return ""
}

// pausedConsumer lets a consumer commit that another one has replaced.
func pausedConsumer(w *world) string {
	p, err := New(w.fault, nil)
	if err != nil {
		w.Fatal(err)
	}
	return replaced(w.T, p.Store(w.DB.Store()), w.DB.Store(), w.DB.Reader())
}

// keyAfterRestart uses a key twice before the consumer is started again, and once afterwards.
func keyAfterRestart(w *world) string {
	b := w.backend()
	stop := w.consumer("first")
	b.persist(b.keyed(log, "key", "a"))
	b.persist(b.keyed(log, "key", "a"))
	if got := b.read(log); got != "a" {
		w.Errorf("while the same consumer runs, the log holds %s", got)
	}
	stop()
	w.consumer("second")
	b.persist(b.keyed(log, "key", "a"))
	if got := b.read(log); got != "a" {
		return fmt.Sprintf("with one key the log holds %s", got)
	}
	return ""
}

// onePartitionHeld asks for a barrier while nobody drains the second of two partitions.
func onePartitionHeld(w *world) string {
	b := w.backend()
	w.consumer("consumer", func(s store.Store) store.Store { return holdsOnly{s, 0} })
	b.append(w.logIn(1), "a")
	if b.within(time.Minute, b.barrier()) == backend.Persisted && b.read(w.logIn(1)) != "a" {
		return "a barrier is reached although nothing of a partition is persisted"
	}
	return ""
}

// tailBehindPage follows a log behind the page that was read, with something persisted in between.
func tailBehindPage(w *world) string {
	b := w.backend()
	w.consumer("consumer")
	b.persist(b.append(log, "a"))
	b.persist(b.append(log, "b"))
	tail, err := b.Subscribe(w.Context(), log, 1)
	if err != nil {
		w.Fatal(err)
	}
	defer tail.Close()
	b.persist(b.append(log, "c"))
	positions, err := next(w.Context(), tail)
	if err != nil {
		w.Fatal(err)
	}
	if positions[0] != 2 {
		return fmt.Sprintf("a tail behind position 1 begins with %d", positions[0])
	}
	return ""
}

// clearedLog looks at the positions of a log that was cleared.
func clearedLog(w *world) string {
	b := w.backend()
	w.consumer("consumer")
	b.append(log, "a")
	b.clear(log)
	r := b.append(log, "b", "c")
	if page := b.page(log, 1, &r); page.Messages[0].Position != 2 || page.Log.LastPosition != 3 {
		return fmt.Sprintf("after position 1 was cleared, the first position is %d of %d", page.Messages[0].Position, page.Log.LastPosition)
	}
	return ""
}

// fullPage reads a page that is shorter than the log.
func fullPage(w *world) string {
	b := w.backend()
	w.consumer("consumer")
	r := b.append(log, "a", "b", "c")
	if got := bodies(b.page(log, 2, &r)); got != "a b" {
		return fmt.Sprintf("a page of two shows %s", got)
	}
	return ""
}

// differentHeaders appends messages of which only one has headers.
func differentHeaders(w *world) string {
	b := w.backend()
	w.consumer("consumer")
	records := testbed.Appends(log, "a", "b")
	var err error
	if records[1].Headers, err = drainmark.NewHeaders(drainmark.Header{Name: "tenant", Value: "7"}); err != nil {
		w.Fatal(err)
	}
	r, err := b.Append(w.Context(), log, records)
	if err != nil {
		w.Fatal(err)
	}
	if page := b.page(log, 10, &r); page.Messages[0].Headers != records[0].Headers || page.Messages[1].Headers != records[1].Headers {
		return fmt.Sprintf("the messages have the headers %q and %q", page.Messages[0].Headers, page.Messages[1].Headers)
	}
	return ""
}

// commitFailed lets a consumer fail at its second write, as when it is killed before that, and looks what it writes again.
func commitFailed(w *world) string {
	b := w.backend()
	w.consumer("consumer", func(s store.Store) store.Store { return &failsSecond{Store: s} })
	b.append(log, "a")
	b.append(log, "b")
	b.persist(b.barrier())
	if got := b.read(log); got != "a b" {
		return "a log of a and b has " + got
	}
	return ""
}

// removed appends three messages, removes, and says what the log shows if that is not want.
func removed(kind drainmark.RecordKind, position uint64, want string) func(*world) string {
	return func(w *world) string {
		b := w.backend()
		defer w.consumer("consumer")()
		b.persist(b.append(log, "one", "two", "three"))
		b.places()
		b.remove(kind, position)
		return differs(b.places(), want)
	}
}

func deletedLog(w *world) string {
	b := w.backend()
	defer w.consumer("consumer")()
	b.persist(b.append(log, "one", "two"))
	b.remove(drainmark.Delete, 0)
	if _, err := b.Messages(w.Context(), log, 0, 10, nil, 0); drainmark.KindOf(err) != drainmark.KindNotFound {
		return fmt.Sprint("a deleted log is there: ", err)
	}
	b.persist(b.append(log, "three"))
	return differs(b.places(), "3:three")
}

func differs(got, want string) string {
	if got == want {
		return ""
	}
	return fmt.Sprintf("the log shows %q and not %q", got, want)
}

// remove removes from the log, and waits until that is persisted.
func (s service) remove(kind drainmark.RecordKind, position uint64) {
	s.Helper()
	r := drainmark.Record{Kind: kind, Log: log}
	if position > 0 {
		r.Target = drainmark.AtPosition(position)
	}
	receipt, err := s.Publish(s.Context(), r)
	if err != nil {
		s.Fatal(err)
	}
	s.persist(receipt)
}

// places says which message stands where.
func (s service) places() string {
	var all []string
	page := s.page(log, 1000, nil)
	for _, m := range page.Messages {
		all = append(all, fmt.Sprintf("%d:%s", m.Position, m.Body))
	}
	return strings.Join(all, " ")
}
