package consumer

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
)

// A plan takes memory for the records that there are, not for the most that there may be: most commits of a quiet
// partition are of one.
func TestAPlanIsAsLargeAsItsRecords(t *testing.T) {
	t.Parallel()
	d := &drain{
		common: &common{limits: Limits{}.withDefaults(), metrics: newMetrics(nil)}, memory: &memory{}, logger: slog.New(slog.DiscardHandler),
	}
	producer := drainmark.NewProducerID()
	for _, batches := range [][]int{{1}, {2, 1}, {30, 30, 1000}} {
		var deliveries []broker.Delivery
		records, first := 0, uint64(1)
		for _, n := range batches {
			b := drainmark.Batch{Producer: producer, First: first}
			for range n {
				b.Records = append(b.Records, message("x"))
			}
			deliveries = append(deliveries, broker.Delivery{Header: broker.Header{Producer: producer, First: first, Last: b.Last()}, Payload: drainmark.EncodeBatch(nil, &b)})
			records, first = records+n, b.Last()+1
		}
		p, err := d.plan(deliveries)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.entries) != records || cap(p.entries) > 2*records {
			t.Errorf("batches of %v records take %d entries with room for %d", batches, len(p.entries), cap(p.entries))
		}
	}
}

// A dead letter whose marks are not known is of a partition all the same.
func TestALetterWithoutMarksIsOfItsPartition(t *testing.T) {
	t.Parallel()
	d := &drain{common: &common{now: time.Now}, partition: 3}
	for name, e := range map[string]entry{
		"lost":        d.lost(&broker.Delivery{Lost: "the stream was deleted"}),
		"undecodable": d.undecodable(&broker.Delivery{Payload: []byte("garbage")}, drainmark.Span{}, errors.New("garbage")),
	} {
		if span := e.ops[0].Letter.Span; span != (drainmark.Span{Partition: 3}) || e.span.Last != 0 {
			t.Errorf("%s: the letter's marks are %+v, and the entry's %+v", name, span, e.span)
		}
	}
}
