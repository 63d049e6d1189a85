package consumer

import (
	"log/slog"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// FuzzPlan puts a message of anybody's, with headers of anybody's, before a batch that a producer has published next. The
// batch loses a record only to a message that can be what it says it is: it is decoded and has that record's marks, or it
// is large enough for the marks of all that it hides, which begin with the producer's next one.
func FuzzPlan(f *testing.F) {
	producer := drainmark.ProducerID{1}
	damaged := drainmark.EncodeBatch(nil, &drainmark.Batch{Producer: producer, First: 4, Records: []drainmark.Record{message("x"), message("y")}})
	f.Add([]byte("eleven byte"), uint64(1), uint64(1)<<62, uint8(3))
	f.Add([]byte("eleven byte"), uint64(4), uint64(4), uint8(3))
	f.Add(make([]byte, 100), uint64(4), uint64(5), uint8(3))
	f.Add(make([]byte, 100), uint64(5), uint64(6), uint8(3))
	f.Add(make([]byte, 100), uint64(1), uint64(4), uint8(3))
	f.Add(make([]byte, 100), uint64(0), uint64(0), uint8(0))
	f.Add(damaged, uint64(4), uint64(5), uint8(3))
	f.Add(damaged[:len(damaged)-1], uint64(4), uint64(5), uint8(3))
	f.Fuzz(func(t *testing.T, payload []byte, first, last uint64, done uint8) {
		d := &drain{
			common: &common{limits: Limits{}.withDefaults(), metrics: newMetrics(nil), now: time.Now},
			memory: &memory{progress: drainmark.Progress{Producers: map[drainmark.ProducerID]drainmark.ProducerProgress{}}},
			logger: slog.New(slog.DiscardHandler),
		}
		next := uint64(done) + 1
		d.progress.Producers[producer] = drainmark.ProducerProgress{Done: drainmark.Ranges{}.Add(1, uint64(done))}
		own := drainmark.Batch{Producer: producer, First: next, Records: make([]drainmark.Record, 5)}
		for i := range own.Records {
			own.Records[i] = message("own")
		}
		p, err := d.plan([]broker.Delivery{
			{Header: broker.Header{Producer: producer, First: first, Last: last}, Payload: payload},
			{Header: broker.Header{Producer: producer, First: next, Last: own.Last()}, Payload: drainmark.EncodeBatch(nil, &own)},
		})
		if _, undecodable := drainmark.DecodeBatch(payload); undecodable == nil {
			return // it does what it says
		}
		if err != nil {
			t.Fatalf("a message that cannot be decoded shows a gap: %v", err)
		}
		hidden := uint64(len(own.Records))
		for _, e := range p.entries {
			if e.record != nil {
				hidden--
			}
		}
		if hidden > 0 && (first != next || hidden > last-first+1 || last-first+1 > uint64(len(payload))/6) {
			t.Errorf("%d bytes with the marks %d..%d hide %d records from %d on", len(payload), first, last, hidden, next)
		}
	})
}
