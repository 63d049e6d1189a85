package consumer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	"github.com/drainmark/drainmark/effect"
	"github.com/drainmark/drainmark/internal/tracing"
	"github.com/drainmark/drainmark/store"
	storememory "github.com/drainmark/drainmark/store/memory"
	"github.com/drainmark/drainmark/test/testbed"
)

// rig is a bed with one partition for one consumer. begin starts it, and what is set here before is the consumer's.
type rig struct {
	*testbed.Bed
	client    *brokermemory.Client // what publishes
	producer  drainmark.ProducerID // who does
	wrap      func(broker.Broker) broker.Broker
	wrapStore func(store.Store) store.Store
	now       func() time.Time
	limits    Limits
	accounts  func(drainmark.Progress) bool
	effects   effect.List
	open      func(int, []byte) ([]byte, error)
	tracer    *tracing.Tracer

	consumer *Consumer            // the one that was begun last
	registry *prometheus.Registry // and its metrics
	stop     func()               // stops it
	logged   bytes.Buffer         // by consumers, to be read when none runs
}

// bubble runs a test with a rig.
func bubble(t *testing.T, o brokermemory.Options, test func(*rig)) {
	testbed.Run(t, o, func(b *testbed.Bed) {
		test(&rig{Bed: b, client: b.Connect(), producer: drainmark.NewProducerID()})
	})
}

func (r *rig) begin() {
	var client broker.Broker = r.Server.Connect()
	if r.wrap != nil {
		client = r.wrap(client)
	}
	with, err := r.DB.StoreWith(r.effects, effect.Use[*storememory.Tx]{Violated: func(err error) ([]string, string) {
		if errors.Is(err, errSoldOut) {
			return []string{"sold_out"}, err.Error()
		}
		return nil, ""
	}, Judge: func(_ *storememory.Tx, err error) effect.Verdict {
		if errors.Is(err, errNoTable) {
			return effect.Deployment
		}
		return effect.Content
	}})
	if err != nil {
		r.Fatal(err)
	}
	var master store.Store = with
	if r.wrapStore != nil {
		master = r.wrapStore(master)
	}
	r.registry = prometheus.NewRegistry()
	r.consumer = New(Config{Metrics: r.registry, Broker: client, Store: master, Owner: "one", Partitions: 1, Now: r.now, Limits: r.limits, Accounts: r.accounts, Effects: r.effects, Open: r.open, Tracer: r.tracer,
		Logger: slog.New(slog.NewTextHandler(&r.logged, nil))})
	run := r.consumer.Run
	r.stop = r.Start(func(ctx context.Context) {
		run(ctx)
		_ = client.Close()
	})
}

// publish publishes records. The first has the sequence given.
func (r *rig) publish(first uint64, records ...drainmark.Record) {
	r.Helper()
	b := r.batch(first, records...)
	r.publishRaw(b.Header, b.Payload)
}

// batch returns a batch of the records. The first has the sequence given.
func (r *rig) batch(first uint64, records ...drainmark.Record) broker.Batch {
	for i := range records {
		records[i].AcceptedAt = time.Now()
	}
	b := drainmark.Batch{Producer: r.producer, First: first, Records: records}
	return broker.Batch{Header: broker.Header{Producer: r.producer, First: first, Last: b.Last()}, Payload: drainmark.EncodeBatch(nil, &b)}
}

func (r *rig) publishRaw(h broker.Header, payload []byte) {
	r.Helper()
	if err := r.client.Publish(context.Background(), 0, broker.Batch{Header: h, Payload: payload}); err != nil {
		r.Fatal(err)
	}
}

func message(text string) drainmark.Record {
	return drainmark.Record{Kind: drainmark.Append, Log: "log", ContentType: "text/plain", Body: []byte(text)}
}

// texts returns what the log shows.
func (r *rig) texts() []string { return r.Texts("log") }

func (r *rig) expect(texts ...string) {
	r.Helper()
	if got := r.texts(); !slices.Equal(got, texts) {
		r.Fatalf("the log shows %q, not %q", got, texts)
	}
}

func (r *rig) progress() drainmark.Progress { return r.Progress(0) }

func (r *rig) letters() []store.DeadLetter { return r.Letters(0) }

func TestPersistsInOrderAndAcknowledges(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		r.publish(1, message("a"), message("b"))
		r.begin()
		r.publish(3, message("c"))
		r.Wait(time.Second)
		r.expect("a", "b", "c")
		backlog, err := r.client.Backlog(context.Background(), 0, r.progress())
		if err != nil || backlog.InFlight.Records != 0 || backlog.Pending.Records != 0 {
			t.Errorf("after all is persisted the backlog is %+v (%v)", backlog, err)
		}
	})
}

func TestDropsWhatComesAgain(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		r.begin()
		r.publish(1, message("a"), message("b"))
		r.publish(1, message("a"), message("b"))
		r.Wait(time.Second)
		r.publish(1, message("a"), message("b"))
		r.publish(2, message("b"), message("c")) // half the batch is new
		r.Wait(time.Second)
		r.expect("a", "b", "c")
		if n := testutil.ToFloat64(r.consumer.metrics.duplicates); n != 5 {
			t.Errorf("%v duplicates are counted, not 5", n)
		}
	})
}

// A gap that the broker does not fill is passed after some tries, listed as missing, filled by a late record, and
// declared lost by a discard.
func TestGap(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		r.begin()
		r.publish(1, message("1"))
		r.Wait(time.Second)
		r.publish(4, message("4"))
		r.Wait(500 * time.Millisecond)
		r.expect("1") // not passed yet
		r.Wait(10 * time.Second)
		r.expect("1", "4")
		missing := r.progress().Missing()
		if len(missing) != 1 || missing[0].First != 2 || missing[0].Last != 3 {
			t.Fatalf("missing are %v, not 2..3", missing)
		}
		if n := testutil.ToFloat64(r.consumer.metrics.missingRecords); n != 2 {
			t.Errorf("%v records are counted as missing, not 2", n)
		}
		r.publish(3, message("3"))
		r.Wait(time.Second)
		r.expect("1", "4", "3")
		r.publish(5, drainmark.Record{Kind: drainmark.Discard, Target: missing[0].String()})
		r.Wait(time.Second)
		if left := r.progress().Missing(); len(left) != 0 {
			t.Errorf("%v is missing after it was declared lost", left)
		}
		lost := drainmark.Span{Producer: r.producer, First: 2, Last: 2}
		rejected, err := r.Reader.Rejected(context.Background(), 0, []drainmark.Span{lost}, 1)
		if err != nil || len(rejected) != 1 || rejected[0].Span != lost || !rejected[0].Discarded {
			t.Errorf("what was lost is reported as %+v (%v)", rejected, err)
		}
		r.publish(2, message("2"))
		r.Wait(time.Second)
		r.expect("1", "4", "3") // declared lost is lost
	})
}

// A gap is counted once, when it has been passed, and not with each attempt to commit what is behind it.
func TestAGapIsCountedOnce(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		fenced := 0
		r.wrapStore = func(s store.Store) store.Store {
			return fencing{s, func() bool { fenced++; return fenced <= 3 }}
		}
		r.publish(3, message("3"))
		r.begin()
		r.Wait(time.Minute)
		r.expect("3")
		if n := testutil.ToFloat64(r.consumer.metrics.missingRecords); n != 2 || fenced < 4 {
			t.Errorf("after %d commits %v records are counted as missing, not 2", fenced, n)
		}
	})
}

// fencing markers commits while markers says so.
type fencing struct {
	store.Store
	markers func() bool
}

func (f fencing) Write(ctx context.Context, w store.Write) error {
	if f.markers() {
		return store.ErrFenced
	}
	return f.Store.Write(ctx, w)
}

// Two producers have lost something, as all have when a broker has lost its disk: one search after the other ends.
func TestGapsOfTwoProducers(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		first, second := r.producer, drainmark.NewProducerID()
		for _, r.producer = range []drainmark.ProducerID{first, second} {
			r.publish(1, message("1"))
		}
		r.begin()
		r.Wait(time.Second)
		r.stop()
		for _, r.producer = range []drainmark.ProducerID{first, second} {
			r.publish(3, message("3")) // both are received at once
		}
		r.begin()
		r.Wait(30 * time.Second)
		r.expect("1", "1", "3", "3")
		if missing := r.progress().Missing(); len(missing) != 2 {
			t.Errorf("missing are %v, not a record of each", missing)
		}
	})
}

// forgetful is a broker that forgets whatever it delivers.
type forgetful struct{ broker.Broker }

func (b forgetful) Open(ctx context.Context, partition int, from drainmark.Cursor, again bool) (broker.Receiver, error) {
	r, err := b.Broker.Open(ctx, partition, from, again)
	return forgetting{r}, err
}

type forgetting struct{ broker.Receiver }

func (r forgetting) Receive(ctx context.Context, max int) ([]broker.Delivery, error) {
	deliveries, err := r.Receiver.Receive(ctx, max)
	if err == nil {
		err = r.Receiver.Ack(ctx, deliveries[len(deliveries)-1])
	}
	return deliveries, err
}

func (r forgetting) Ack(context.Context, broker.Delivery) error { return nil }

// A broker that loses more with every subscription shows another end of the gap each time. The gap is passed all the
// same, and the lost records are listed. Otherwise nothing would be persisted as long as something is lost.
func TestGapThatGrows(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		r.wrap = func(b broker.Broker) broker.Broker { return forgetful{b} }
		r.begin()
		r.publish(1, message("1"))
		r.Wait(time.Second)
		for i := range 40 {
			r.publish(3+uint64(i), message(fmt.Sprint(3+i)))
			r.Wait(2 * time.Second)
		}
		if got := r.texts(); len(got) < 2 || got[len(got)-1] != "42" {
			t.Errorf("the log shows %q, and not what came last", got)
		}
		if missing := r.progress().Missing(); len(missing) != 1 || missing[0].First != 2 {
			t.Errorf("missing are %v, not one run that begins with 2", missing)
		}
	})
}

func TestGapThatIsFilledByOpeningAgain(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Replays: true}, func(r *rig) {
		r.publish(2, message("2"))
		r.publish(1, message("1"))
		r.begin()
		r.Wait(30 * time.Second)
		// The broker has both, in the wrong order. Nothing is lost. Order is the broker's to keep.
		if got := r.texts(); len(got) != 2 {
			t.Errorf("the log shows %q", got)
		}
	})
}

// The one bad record is set aside, whether the store can say which it is or not. The rest is persisted around it.
func TestRefusedRecord(t *testing.T) {
	t.Parallel()
	for _, blindly := range []bool{false, true} {
		t.Run(fmt.Sprintf("blindly %v", blindly), func(t *testing.T) {
			t.Parallel()
			bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
				cured := false
				r.DB.RefuseBlindly = blindly
				r.DB.Refuse = func(log string, m *drainmark.Message) (string, bool) {
					return "too bad", !cured && strings.HasPrefix(string(m.Body), "bad")
				}
				r.begin()
				r.publish(1, message("a"), message("b"), message("bad 1"), message("c"), message("d"), message("bad 2"), message("e"))
				r.Wait(time.Second)
				r.expect("a", "b", "c", "d", "e")
				letters := r.letters()
				if len(letters) != 2 || letters[0].Span.First != 3 || letters[1].Span.First != 6 || bodyOf(letters[0].DeadLetter) != "bad 1" ||
					!strings.Contains(letters[0].Reason, "too bad") || letters[0].Attempts != 1 || letters[0].Log != "log" {
					t.Fatalf("the dead letters are %+v", letters)
				}
				if p := r.progress(); p.Rejected != 2 || p.Next(r.producer) != 8 {
					t.Fatalf("the progress is %+v", p)
				}

				r.publish(8, drainmark.Record{Kind: drainmark.Retry, Target: letters[0].ID})
				r.Wait(time.Second)
				if again := r.letters(); len(again) != 2 || again[0].Attempts != 2 && again[1].Attempts != 2 {
					t.Fatalf("after a retry that is refused the dead letters are %+v", again)
				}
				r.accountsFor(8, letters[0].ID, "too bad")
				cured = true
				r.publish(9, drainmark.Record{Kind: drainmark.Retry, Target: letters[0].ID}, message("f"),
					drainmark.Record{Kind: drainmark.Discard, Target: letters[1].ID}, drainmark.Record{Kind: drainmark.Retry, Target: letters[1].ID})
				r.Wait(time.Second)
				r.expect("a", "b", "c", "d", "e", "bad 1", "f")
				if left := r.letters(); len(left) != 0 {
					t.Fatalf("left are %+v", left)
				}
				r.accountsFor(9, "", "")
				r.accountsFor(11, "", "")
				r.accountsFor(12, letters[1].ID, "discarded before")
			})
		})
	}
}

// A record that the store refuses does not use its key: the next record with the key is the first one.
func TestARefusedRecordUsesNoKey(t *testing.T) {
	t.Parallel()
	for _, blindly := range []bool{false, true} {
		bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
			r.DB.RefuseBlindly = blindly
			r.DB.Refuse = func(_ string, m *drainmark.Message) (string, bool) {
				return "too bad", strings.HasPrefix(string(m.Body), "bad")
			}
			keyed := func(text, key string) drainmark.Record {
				m := message(text)
				m.Key = key
				return m
			}
			r.publish(1, message("a"), keyed("bad 1", "k"), keyed("good", "k"), keyed("bad 2", "k"), keyed("good", "k"), keyed("other", "k"))
			r.begin()
			r.Wait(time.Second)
			r.expect("a", "good")
			var reasons []string
			for _, l := range r.letters() {
				record, _ := l.Record()
				reasons = append(reasons, string(record.Body)+": "+l.Reason)
			}
			want := []string{"bad 1: too bad", "bad 2: " + store.ReasonKeyReused, "other: " + store.ReasonKeyReused}
			if !slices.Equal(reasons, want) {
				t.Errorf("blindly %v, the dead letters are %q, not %q", blindly, reasons, want)
			}
		})
	}
}

func TestOneCommitOfManyDeadLettersIsOneLine(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		r.DB.Refuse = func(log string, m *drainmark.Message) (string, bool) { return "no", true }
		records := make([]drainmark.Record, 500)
		for i := range records {
			records[i] = message("x")
		}
		r.publish(1, records...)
		r.publish(501, records...)
		r.begin()
		r.Wait(time.Minute)
		if p := r.progress(); p.SetAside != 1000 {
			t.Fatalf("%d records are set aside", p.SetAside)
		}
		r.stop()
		if n := strings.Count(r.logged.String(), "set_aside="); n != 1 || !strings.Contains(r.logged.String(), "set_aside=1000") {
			t.Errorf("%d lines about them:\n%s", n, r.logged.String())
		}
	})
}

func TestReusedKeyIsSetAside(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		keyed := func(text string) drainmark.Record {
			m := message(text)
			m.Key, m.Principal = "key", "shop"
			return m
		}
		r.begin()
		r.publish(1, keyed("a"), keyed("a"), keyed("b"), message("c"))
		r.Wait(time.Second)
		r.expect("a", "c")
		if letters := r.letters(); len(letters) != 1 || letters[0].Reason != store.ReasonKeyReused || letters[0].Principal != "shop" {
			t.Errorf("the dead letters are %+v", letters)
		}
	})
}

func TestInvalidLogNameIsSetAside(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		r.begin()
		bad := message("x")
		bad.Log = "../etc"
		r.publish(1, bad, message("a"))
		r.Wait(time.Second)
		r.expect("a")
		if letters := r.letters(); len(letters) != 1 || letters[0].Log != "../etc" {
			t.Errorf("the dead letters are %+v", letters)
		}
	})
}

func TestReportsALostTailExactly(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Replays: true}, func(r *rig) {
		r.begin()
		r.publish(1, message("a"))
		r.Wait(time.Second)
		r.publish(2, message("b"), message("c"))
		r.Wait(time.Second)
		if err := r.DB.Rollback(1); err != nil {
			t.Fatal(err)
		}
		r.expect("a")
		r.publish(4, message("d"))
		r.Wait(10 * time.Second)
		r.expect("a", "b", "c", "d")
		if n := testutil.ToFloat64(r.consumer.metrics.lostRecords); n != 2 {
			t.Errorf("%v records are counted as lost, not 2", n)
		}
		if n := testutil.ToFloat64(r.consumer.metrics.fencedCommits); n < 1 {
			t.Errorf("%v fenced commits are counted", n)
		}
	})
}

// A rollback of a partition to which nobody writes is noticed by the heartbeats, while the broker can still repair it.
func TestRepairsALostTailOfAQuietPartition(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Replays: true}, func(r *rig) {
		r.begin()
		r.publish(1, message("a"))
		r.Wait(time.Second)
		r.publish(2, message("b"))
		r.Wait(time.Second)
		if err := r.DB.Rollback(1); err != nil {
			t.Fatal(err)
		}
		r.expect("a")
		r.Wait(10 * time.Second)
		r.expect("a", "b")
	})
}

func TestStopsByGivingUpItsClaims(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		r.begin()
		r.publish(1, message("a"))
		r.Wait(time.Second)
		r.stop()
		r.stop = nil
		claims, err := r.Reader.Claims(context.Background())
		if err != nil || len(claims) != 0 {
			t.Errorf("after the stop the claims are %v (%v)", claims, err)
		}
		r.expect("a")
	})
}
