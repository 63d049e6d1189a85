package consumer

import (
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
)

func TestUndecodableBatch(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		r.begin()
		r.publish(1, message("a"))
		damaged := r.batch(2, message("what"), message("is this"))
		damaged.Payload[len(damaged.Payload)-1] ^= 1
		r.publishRaw(damaged.Header, damaged.Payload)
		r.publishRaw(broker.Header{}, []byte("and this"))
		r.publishRaw(broker.Header{}, []byte("and this"))
		elsewhere := drainmark.Batch{Partition: 1, Producer: r.producer, First: 4, Records: []drainmark.Record{message("x")}}
		r.publishRaw(broker.Header{Partition: 1, Producer: r.producer, First: 4, Last: 4}, drainmark.EncodeBatch(nil, &elsewhere))
		r.publish(4, message("b"))
		r.Wait(time.Second)
		r.expect("a", "b")
		letters := r.letters()
		if len(letters) != 3 {
			t.Fatalf("the dead letters are %+v", letters)
		}
		for i, want := range []drainmark.Span{{Producer: r.producer, First: 2, Last: 3}, {}, {}} {
			if letters[i].Span != want || len(letters[i].Payload) == 0 || letters[i].Reason == "" {
				t.Errorf("dead letter %d is %+v", i, letters[i])
			}
		}
		r.publish(5, drainmark.Record{Kind: drainmark.Discard, Target: letters[1].ID}, drainmark.Record{Kind: drainmark.Retry, Target: letters[0].ID})
		r.Wait(time.Second)
		if left := r.letters(); len(left) != 2 {
			t.Errorf("after a discard and a retry that fails, left are %+v", left)
		}
	})
}

func TestMarksOfABrokerMessageAreBelievedOnlyIfItCanHaveSoMany(t *testing.T) {
	t.Parallel()
	bubble(t, brokermemory.Options{Ordered: true, MaxPayload: 32 << 20}, func(r *rig) {
		r.begin()
		r.publish(1, message("a"))
		r.publishRaw(broker.Header{Producer: r.producer, First: 2, Last: 1_000_000}, []byte("eleven byte"))
		r.publishRaw(broker.Header{Producer: r.producer, First: 2, Last: 3}, []byte("eleven byte!"[:11]))
		huge := make([]byte, drainmark.MaxBatchBytes+1)
		r.publishRaw(broker.Header{Producer: r.producer, First: 2, Last: 2}, huge)
		r.publish(2, message("b"), message("c"))
		r.Wait(time.Second)
		r.expect("a", "b", "c")
		letters := r.letters()
		if len(letters) != 2 { // the first two are the same message
			t.Fatalf("%d dead letters", len(letters))
		}
		for _, l := range letters {
			if (l.Span != drainmark.Span{}) {
				t.Errorf("the marks of %s were believed: %s", l.ID, l.Span)
			}
		}
		if l := letters[1]; len(l.Payload) != 0 || !strings.Contains(l.Reason, "SHA-256") || !strings.Contains(l.Reason, "limit is 8388608") {
			t.Errorf("of the huge message %d bytes are kept; the reason is %q", len(l.Payload), l.Reason)
		}
	})
}

// A message that cannot be decoded accounts for the marks that its headers claim only if its producer can have published
// it next. Otherwise accepted records with those marks would be dropped when they come.
func TestImpossibleMarksDropNothing(t *testing.T) {
	t.Parallel()
	stranger := drainmark.NewProducerID()
	for name, claim := range map[string]struct {
		first, last uint64
		of          *drainmark.ProducerID
		bytes       int
		believed    bool
	}{
		"all that it may have next":        {2, 3, nil, 27 + 2*6, true},
		"a byte too little for so many":    {2, 3, nil, 27 + 2*6 - 1, false},
		"eleven bytes for all marks":       {1, 1 << 62, nil, 11, false},
		"eleven bytes for the next mark":   {2, 2, nil, 11, false},
		"some that are done":               {1, 3, nil, 1000, false},
		"the next but one":                 {3, 4, nil, 1000, false},
		"marks of the far future":          {1 << 62, 1<<62 + 3, nil, 1000, false},
		"an unknown producer's first ones": {1, 2, &stranger, 1000, true},
		"an unknown producer's later ones": {2, 3, &stranger, 1000, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
				own := r.producer
				r.begin()
				r.publish(1, message("a"))
				if claim.of != nil {
					r.producer = *claim.of
				}
				h := broker.Header{Producer: r.producer, First: claim.first, Last: claim.last}
				r.publishRaw(h, make([]byte, claim.bytes))
				r.producer = own
				r.publish(2, message("b"), message("c"), message("d"))
				r.Wait(time.Second)
				if claim.believed && claim.of == nil {
					r.expect("a", "d")
				} else {
					r.expect("a", "b", "c", "d")
				}
				letters := r.letters()
				if len(letters) != 1 || (letters[0].Span.First != 0) != claim.believed {
					r.Fatalf("there are %d dead letters, the first with the marks %s", len(letters), letters[0].Span)
				}
				if missing := r.progress().Missing(); len(missing) > 0 {
					r.Errorf("missing are %v", missing)
				}
			})
		})
	}
}
