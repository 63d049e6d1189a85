package kafka

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/test/servers"
)

var purgeCases = []serverCase{
	{"what was acknowledged before the replay window is deleted, and nothing else", purgedWhenOld},
	{"over half full, what is acknowledged goes, oldest first, and the rest stays", purgedWhenHalfFull},
	{"every process knows that a partition is full, and that there is room again", fullForAll},
	{"people's tools see how far consumers are", toldToTools},
}

func (p *partition) startsAt(t *testing.T) int64 {
	t.Helper()
	start, err := p.asked.offset(t.Context(), atStart)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return start
}

func purgedWhenOld(t *testing.T, server *servers.Kafka) {
	b := opened(t, server, Config{ReplayWindow: time.Millisecond, PurgeInterval: 10 * time.Millisecond})
	publish(t, b, 1, 10)
	r := receiverOf(t, b, "")
	if err := r.Ack(t.Context(), expect(t, r, 1, 7)[4]); err != nil {
		t.Fatalf("acknowledging: %v", err)
	}
	eventually(t, "purging", func() error {
		if start := b.partitions[0].startsAt(t); start != 5 {
			return fmt.Errorf("it begins at %d", start)
		}
		return nil
	})
	for range 3 { // nothing more goes
		if err := b.look(t.Context()); err != nil {
			t.Fatalf("%v", err)
		}
	}
	if start := b.partitions[0].startsAt(t); start != 5 {
		t.Errorf("it begins at %d, want 5", start)
	}
	r = receiverOf(t, b, "")
	if lost := receive(t, r, 1)[0]; lost.Lost == "" {
		t.Errorf("to who begins anew, first comes %v, want what is gone", lost.Span())
	}
	expect(t, r, 6, 10)
}

func purgedWhenHalfFull(t *testing.T, server *servers.Kafka) {
	const size, most = 10_000, 400_000
	b := opened(t, server, Config{MaxBytes: 2 * most, PurgeInterval: time.Hour})
	for i := uint64(1); i <= 30; i++ {
		if err := b.Publish(t.Context(), 0, batchOf(i, size)); err != nil {
			t.Fatalf("publishing %d: %v", i, err)
		}
	}
	r := receiverOf(t, b, "")
	got := expect(t, r, 1, 30)
	for _, step := range []struct {
		acknowledged int
		least, most  int64 // where it begins then
	}{{5, 5, 5}, {30, 9, 13}} {
		if err := r.Ack(t.Context(), got[step.acknowledged-1]); err != nil {
			t.Fatalf("acknowledging: %v", err)
		}
		if err := b.look(t.Context()); err != nil {
			t.Fatalf("%v", err)
		}
		if start := b.partitions[0].startsAt(t); start < step.least || start > step.most {
			t.Errorf("after %d of 30 were acknowledged it begins at %d, want %d to %d", step.acknowledged, start, step.least, step.most)
		}
	}
}

func fullForAll(t *testing.T, server *servers.Kafka) {
	const size = 5000
	b := opened(t, server, Config{MaxBytes: 4 * minPartitionBytes, PurgeInterval: 20 * time.Millisecond})
	last := uint64(0)
	for refused := false; ; {
		err := b.Publish(t.Context(), 0, batchOf(last+1, size))
		switch {
		case errors.Is(err, broker.ErrFull) && refused:
		case errors.Is(err, broker.ErrFull): // what was published while it was measured counts twice until it is measured again
			eventually(t, "looking", func() error { return b.look(t.Context()) })
			refused = true
			continue
		case err != nil || last > 100:
			t.Fatalf("publishing %d: %v", last+1, err)
		default:
			last, refused = last+1, false
			continue
		}
		break
	}
	if stored := (last + 1) * size; stored < 2*minPartitionBytes-2*size || stored > 2*minPartitionBytes+2*size {
		t.Errorf("%d batches of %d bytes were taken, of %d bytes", last, size, 2*minPartitionBytes)
	}
	if err := b.Ping(t.Context()); !errors.Is(err, broker.ErrFull) {
		t.Errorf("Ping: %v", err)
	}
	other := reopened(t, b.config)
	eventually(t, "the other process' refusal", func() error {
		if err := other.Ping(t.Context()); !errors.Is(err, broker.ErrFull) {
			return fmt.Errorf("Ping says %v, of %d bytes, with %d in a batch", err, other.partitions[0].meter.stored(), other.partitions[0].meter.usual())
		}
		return nil
	})
	if err := other.Publish(t.Context(), 1, broker.Batch{Header: broker.Header{Partition: 1, First: 1, Last: 1}}); err != nil {
		t.Errorf("publishing to the other partition: %v", err)
	}
	consumer := reopened(t, b.config)
	r := receiverOf(t, consumer, "")
	if err := r.Ack(t.Context(), expect(t, r, 1, last)[last-1]); err != nil {
		t.Fatalf("acknowledging: %v", err)
	}
	for _, b := range []*Broker{b, other} {
		eventually(t, "publishing again", func() error { return b.Publish(t.Context(), 0, batchOf(last+1, size)) })
		last++
	}
	expect(t, r, last-1, last-1)
}

func toldToTools(t *testing.T, server *servers.Kafka) {
	b := opened(t, server, Config{})
	publish(t, b, 1, 3)
	r := receiverOf(t, b, "")
	if err := r.Ack(t.Context(), expect(t, r, 1, 2)[1]); err != nil {
		t.Fatalf("acknowledging: %v", err)
	}
	eventually(t, "committing", func() error { return b.tell(t.Context()) })
	group := kmsg.NewOffsetFetchRequestGroup()
	group.Group = b.topic.spec.name
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group, req.Groups = group.Group, append(req.Groups, group)
	resp, err := req.RequestWith(t.Context(), b.asking)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil || len(resp.Groups) != 1 || len(resp.Groups[0].Topics) != 1 || resp.Groups[0].Topics[0].Partitions[0].Offset != 2 {
		t.Errorf("the group has %+v (%v), want the offset 2", resp, err)
	}
}

// TestMeter checks what it makes of what Kafka says.
func TestMeter(t *testing.T) {
	t.Parallel()
	var m meter
	check := func(what string, want int64) {
		t.Helper()
		if got := m.stored(); got != want {
			t.Errorf("%s: %d bytes, want %d", what, got, want)
		}
	}
	m.measured(0, 0, 100, 0) // which comes while it is asked
	m.add(100)
	m.add(100)
	check("two batches of its own", 200)
	before := m.begin()
	m.add(100)
	m.measured(0, 10, 1000, before)
	check("ten batches, of which somebody else published seven, and one of its own that was not counted", 1100)
	m.measured(0, 20, 3000, 100)
	check("ten more of 200 bytes", 3000)
	if got := m.newest(1000); got != 15 {
		t.Errorf("the newest 1,000 bytes begin at %d, want 15", got)
	}
	m.purged(15)
	check("fifteen are purged", 1000)
	m.measured(15, 25, 1500, 0)
	check("a file was deleted, and five came, of the mean of its own", 1500)
	m.measured(25, 25, 1500, 0)
	check("everything is purged, and the files are still there", 0)
	m.measured(0, 2, 500, 0)
	check("another topic", 500)
	m.measured(0, 2, 700, 0)
	m.measured(0, 3, 700, 0)
	check("what had come between two questions is in the files before it is in the offsets", 700)
	var silent meter
	silent.saw(10)
	silent.saw(30)
	silent.measured(100, 200, -1, 0)
	if got := silent.stored(); got != 2000 {
		t.Errorf("without sizes: %d bytes, want 2,000", got)
	}
}
