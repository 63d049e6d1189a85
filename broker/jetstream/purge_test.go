package jetstream

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark/broker"
)

// purging are options with which purges happen only when a test asks for one.
func purging(o Options) EmbedConfig {
	o.PurgeInterval = time.Hour
	return EmbedConfig{Options: o}
}

func purge(t *testing.T, b *Broker) {
	t.Helper()
	if err := b.partitions[0].purge(bounded(t)); err != nil {
		t.Fatal(err)
	}
}

// stored returns what the stream holds, and how many bytes.
func stored(t *testing.T, b *Broker) (all []broker.Delivery, bytes uint64) {
	t.Helper()
	info, err := b.partitions[0].info(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	if info.State.Msgs == 0 {
		return nil, 0
	}
	r := open(t, b, "")
	defer r.Close()
	return receive(t, r, int(info.State.Msgs)), info.State.Bytes
}

// wantStored checks what the stream holds of a producer.
func wantStored(t *testing.T, b *Broker, by byte, want ...uint64) {
	t.Helper()
	all, _ := stored(t, b)
	var got []uint64
	for _, d := range all {
		if d.Producer == producer(by) {
			got = append(got, d.First)
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("of producer %d there are %v, want %v", by, got, want)
	}
}

func TestWhatWasAcknowledgedBeforeTheReplayWindowIsPurged(t *testing.T) {
	t.Parallel()
	b := startEmbedded(t, purging(Options{ReplayWindow: 1})).connect(t)
	publish(t, b, 1, 1, 3, 10)
	publish(t, b, 2, 1, 2, 10)
	publish(t, b, 1, 4, 8, 10)
	r := open(t, b, "")
	all := receive(t, r, 10)
	ack(t, r, all[7]) // producer 1 to 6
	purge(t, b)
	wantStored(t, b, 1, 7, 8)
	wantStored(t, b, 2, 2) // its newest stays
	if got := pendingRecords(t, b, persisted(all[7].Cursor, map[byte]uint64{1: 6, 2: 2})); got != 2 {
		t.Errorf("%d records pending, want 2", got)
	}
	if got := pendingRecords(t, b, persisted(all[3].Cursor, map[byte]uint64{1: 3, 2: 1})); got != 6 {
		t.Errorf("%d records pending for a progress that lags behind, want 6", got)
	}
	ack(t, r, all[9])
	purge(t, b)
	wantStored(t, b, 1, 8)
	wantStored(t, b, 2, 2)
	publish(t, b, 1, 9, 9, 10)
	expect(t, r, 9)
}

func TestNothingIsPurgedWithinTheReplayWindow(t *testing.T) {
	t.Parallel()
	b := startEmbedded(t, purging(Options{})).connect(t)
	publish(t, b, 1, 1, 5, 10)
	r := open(t, b, "")
	ack(t, r, expect(t, r, 1, 2, 3, 4, 5)[4])
	purge(t, b)
	wantStored(t, b, 1, 1, 2, 3, 4, 5)
}

func TestAStreamOverHalfFullIsPurgedDownToHalfOldestFirst(t *testing.T) {
	t.Parallel()
	b := startEmbedded(t, purging(Options{MaxBytes: 2 << 20})).connect(t)
	half := uint64(1<<20) / 2
	publish(t, b, 2, 1, 1, 10) // a producer that has died long ago
	publish(t, b, 1, 1, 80, 10_000)
	r := open(t, b, "")
	all := receive(t, r, 81)
	purge(t, b)
	if got, _ := stored(t, b); len(got) != 81 {
		t.Fatalf("nothing is acknowledged, and there are %d of 81 messages left", len(got))
	}
	ack(t, r, all[10])
	purge(t, b)
	wantStored(t, b, 1, upTo(11, 80)...)
	wantStored(t, b, 2, 1)
	ack(t, r, all[70])
	purge(t, b)
	got, bytes := stored(t, b)
	if bytes > half || bytes < half-30_000 {
		t.Errorf("%d bytes are left, want at most and nearly %d", bytes, half)
	}
	want := upTo(uint64(80-len(got)+2), 80)
	wantStored(t, b, 1, want...)
	wantStored(t, b, 2, 1)
}

func TestAGapInTheStreamIsLeaptOver(t *testing.T) {
	t.Parallel()
	b := startEmbedded(t, purging(Options{MaxBytes: 2 << 20})).connect(t)
	publish(t, b, 2, 1, 1, 10)
	publish(t, b, 1, 1, 2000, 10)
	if err := b.partitions[0].purgeSubject(bounded(t), "drainmark.p0."+producer(1).String(), 2000); err != nil {
		t.Fatal(err)
	}
	publish(t, b, 1, 2001, 2060, 10_000)
	r := open(t, b, "")
	ack(t, r, receive(t, r, 62)[61])
	purge(t, b)
	if _, bytes := stored(t, b); bytes > 1<<19 {
		t.Errorf("%d bytes are left, want at most %d", bytes, 1<<19)
	}
}

func TestAnEmbeddedServerShortOfRoomIsPurged(t *testing.T) {
	t.Parallel()
	c := purging(Options{})
	e := startEmbedded(t, c)
	b := e.connect(t)
	publish(t, b, 1, 1, 5, 10)
	r := open(t, b, "")
	e.process.config.MinFree = 1 << 60 // before the first acknowledgement, which has somebody look at it
	ack(t, r, expect(t, r, 1, 2, 3, 4, 5)[2])
	purge(t, b)
	wantStored(t, b, 1, 4, 5)
}

func TestProducersAreForgottenAfterTheirRetention(t *testing.T) {
	t.Parallel()
	b := startEmbedded(t, purging(Options{ReplayWindow: 1, ProducerRetention: 1})).connect(t)
	publish(t, b, 1, 1, 2, 10)
	publish(t, b, 2, 1, 2, 10)
	publish(t, b, 3, 1, 2, 10)
	r := open(t, b, "")
	all := receive(t, r, 6)
	ack(t, r, all[2]) // 2's newest is not acknowledged
	purge(t, b)
	wantStored(t, b, 1)
	wantStored(t, b, 2, 2)
	wantStored(t, b, 3, 1, 2)
	ack(t, r, all[5])
	purge(t, b)
	wantStored(t, b, 2)
	wantStored(t, b, 3, 2) // the newest of all stays
	if got := pendingRecords(t, b, persisted(all[5].Cursor, map[byte]uint64{3: 2})); got != 0 {
		t.Errorf("%d records pending, want 0", got)
	}
	publish(t, b, 1, 3, 3, 10)
	if got := pendingRecords(t, b, persisted(all[5].Cursor, map[byte]uint64{1: 2, 3: 2})); got != 1 {
		t.Errorf("%d records pending, want 1", got)
	}
}

// A producer's newest message stays until its retention has passed since that message, by the clock that has stamped it.
// This process' clock may show anything.
func TestAProducerIsForgottenByTheClockOfItsNewestMessage(t *testing.T) {
	t.Parallel()
	const retention = 2 * time.Hour
	for name, options := range map[string]Options{
		"its retention":                      {ProducerRetention: retention},
		"the replay window, which is longer": {ProducerRetention: time.Hour, ReplayWindow: retention},
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); forgetsAfter(t, options, retention) })
	}
}

func forgetsAfter(t *testing.T, options Options, retention time.Duration) {
	b := startEmbedded(t, purging(options)).connect(t)
	const last = 4
	for by := byte(1); by <= last; by++ {
		publish(t, b, by, 1, 1, 10)
	}
	p := b.partitions[0]
	info, err := p.info(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	followed, err := p.follow(bounded(t), info)
	if err != nil {
		t.Fatal(err)
	}
	all, err := followed.through(bounded(t), info.State.LastSeq)
	if err != nil {
		t.Fatal(err)
	}
	for by, off := range map[byte]time.Duration{1: 0, 2: -100 * time.Hour, 3: 100 * time.Hour} {
		subject := p.subject + producer(by).String()
		quiet, newestOfAll := all[subject], p.subject+producer(last).String()
		quiet.at = quiet.at.Add(off)
		subjects := map[string]newest{subject: quiet, newestOfAll: all[newestOfAll]}
		after := func(age time.Duration) {
			t.Helper()
			if err := p.purgeProducers(bounded(t), followed, subjects, info.State.LastSeq, quiet.at.Add(age)); err != nil {
				t.Fatal(err)
			}
		}
		after(retention - time.Second)
		wantStored(t, b, by, 1)
		after(retention)
		wantStored(t, b, by)
	}
	wantStored(t, b, last, 1) // the newest of all stays
}

// TestWhatWasNotAcknowledgedIsNeverPurged has the ways in which an acknowledged sequence comes to mean something else.
func TestWhatWasNotAcknowledgedIsNeverPurged(t *testing.T) {
	t.Parallel()
	for name, happens := range map[string]func(t *testing.T, e *embedded, b *Broker, r *receiver){
		"the stream is created anew": func(t *testing.T, _ *embedded, b *Broker, _ *receiver) {
			if err := b.conn.js.DeleteStream(bounded(t), "drainmark-p0"); err != nil {
				t.Fatal(err)
			}
			publish(t, b, 1, 1, 5, 10)
		},
		"the server is started again": func(t *testing.T, e *embedded, b *Broker, _ *receiver) {
			if err := errors.Join(e.process.stop(stopTimeout), e.process.start()); err != nil {
				t.Fatal(err)
			}
			eventually(t, func() string {
				if err := b.Ping(bounded(t)); err != nil {
					return err.Error()
				}
				return ""
			})
		},
		"the receiver is closed": func(t *testing.T, _ *embedded, _ *Broker, r *receiver) { r.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := startEmbedded(t, purging(Options{ReplayWindow: 1}))
			b := e.connect(t)
			publish(t, b, 1, 1, 5, 10)
			r := open(t, b, "")
			p := b.partitions[0]
			p.mu.Lock()
			p.acked = acknowledged{by: r, seen: true} // so that nothing is purged before it happens
			p.mu.Unlock()
			ack(t, r, expect(t, r, 1, 2, 3, 4, 5)[4])
			happens(t, e, b, r)
			purge(t, b)
			wantStored(t, b, 1, 1, 2, 3, 4, 5)
		})
	}
}

func TestTheHistoryOfAcknowledgementsIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const window, steps = time.Second, 1000
		p := &partition{b: &Broker{options: Options{ReplayWindow: window}, purgeNow: make(chan struct{}, 1)}}
		by := &receiver{}
		for i := uint64(1); i <= 4*steps; i++ {
			p.acknowledge(by, i, 0)
			p.acked.age(time.Now().Add(-window))
			if n := len(p.acked.history); n > historyLength+1 {
				t.Fatalf("%d entries after %d acknowledgements", n, i)
			}
			if p.acked.aged >= p.acked.through {
				t.Fatal("what has just been acknowledged has aged")
			}
			time.Sleep(window / steps)
		}
		if p.acked.aged < 2*steps {
			t.Errorf("after %d acknowledgements, of which the newest %d are within the window, %d have aged", 4*steps, steps, p.acked.aged)
		}
	})
}

// Persisted messages make room at once, not only at the next check, both when a receiver is behind a full stream, and
// when a message does not fit that is larger than those before.
func TestRoomIsMadeWhenItIsNeeded(t *testing.T) {
	t.Parallel()
	takes := func(t *testing.T, b *Broker, batch broker.Batch) {
		t.Helper()
		eventually(t, func() string {
			err := b.Publish(bounded(t), 0, batch)
			switch {
			case err == nil:
				return ""
			case !errors.Is(err, broker.ErrFull):
				t.Fatal(err)
			}
			return err.Error()
		})
	}
	fill := func(t *testing.T, b *Broker, size int) (next uint64) {
		t.Helper()
		for next = 1; ; next++ {
			switch err := b.Publish(bounded(t), 0, single(1, next, size)); {
			case errors.Is(err, broker.ErrFull):
				return next
			case err != nil:
				t.Fatal(err)
			}
		}
	}
	t.Run("a full stream is persisted by another process", func(t *testing.T) {
		t.Parallel()
		e := startEmbedded(t, purging(Options{MaxBytes: 1 << 18}))
		publishing, consuming := e.connect(t), e.connect(t)
		for range 3 {
			next := fill(t, publishing, 5000)
			r := open(t, consuming, "")
			all := receive(t, r, int(next-1))
			ack(t, r, all[len(all)-1])
			takes(t, publishing, single(1, next, 5000))
		}
	})
	t.Run("a large message follows small ones", func(t *testing.T) {
		t.Parallel()
		b := startEmbedded(t, purging(Options{MaxBytes: 1 << 18})).connect(t)
		r := open(t, b, "")
		for _, to := range []uint64{10, 15} { // of some 26 that there is room for
			publish(t, b, 1, to/15*10+1, to, 5000)
			all := receive(t, r, int(to-to/15*10))
			ack(t, r, all[len(all)-1])
			eventually(t, func() string {
				p := b.partitions[0]
				p.mu.Lock()
				defer p.mu.Unlock()
				if !p.acked.seen {
					return "nobody has looked how large it is"
				}
				return ""
			})
		}
		takes(t, b, single(1, 16, 60_000))
	})
}
