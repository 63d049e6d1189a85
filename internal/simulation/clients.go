package simulation

import (
	"context"
	"fmt"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/store"
)

// Outcome is what a client knows of an append or a clear.
type Outcome int

// The outcomes.
const (
	Done    Outcome = iota // answered with success
	Refused                // certainly not done
	Unknown                // may have been done, or may be done later
)

// Op is one append or clear of a client.
type Op struct {
	client     int
	clear      bool
	log        string
	contents   []string
	key        string
	start, end time.Time // end only if done
	outcome    Outcome
	via        string // the backend that answered, empty after a retry through another one
	receipt    drainmark.Receipt
}

// sighting is a message that was seen at a position.
type sighting struct {
	log      string
	position uint64
	id       string
}

var logNames = []string{"alpha", "beta", "cleared"}

// client does a number of things, one after the other.
func (w *World) client(ctx context.Context, number, count int) {
	place := fmt.Sprint("client ", number)
	var mine []*Op
	for i := 0; i < count && ctx.Err() == nil; i++ {
		time.Sleep(w.dice.duration(place+" thinks", w.thinks))
		switch n := w.dice.intn(place+" does", 100); {
		case n < 55 || len(mine) == 0:
			mine = append(mine, w.append(ctx, number, place, i))
		case n < 60:
			w.clear(ctx, number, place)
		case n < 80:
			w.barrier(ctx, place)
		default:
			w.readBack(ctx, place, mine[w.dice.intn(place+" reads back", len(mine))])
		}
	}
}

// append sends one append. With a key it tries again, through any backend, while the outcome is not known.
func (w *World) append(ctx context.Context, number int, place string, i int) *Op {
	op := &Op{client: number, log: logNames[w.dice.intn(place+" log", len(logNames))], start: time.Now()}
	for k := range 1 + w.dice.intn(place+" size", 5) {
		content := fmt.Sprintf("%d-%d-%d", number, i, k)
		if w.dice.chance(place+" poison", 4) {
			content = "poison-" + content
		}
		op.contents = append(op.contents, content)
	}
	if w.dice.chance(place+" key", 50) {
		op.key = fmt.Sprintf("key-%d-%d", number, i)
	}
	w.record(op)
	for try := 0; ; try++ {
		b := w.anyBackend(place + " backend")
		call, cancel := context.WithTimeout(ctx, time.Second+w.dice.duration(place+" patience", 8*time.Second))
		receipt, err := b.Append(call, op.log, op.records())
		cancel()
		w.settle(op, b, receipt, err, try > 0)
		if op.outcome != Unknown || op.key == "" || try == 3 || ctx.Err() != nil {
			return op
		}
		time.Sleep(w.dice.duration(place+" thinks", time.Second))
	}
}

// settle notes what an answer says of an op. A backend that has died meanwhile has not answered.
func (w *World) settle(op *Op, b *backendProcess, receipt drainmark.Receipt, err error, again bool) {
	dead := false
	select {
	case <-b.dead:
		dead = true
	default:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch kind := drainmark.KindOf(err); {
	case err == nil && !dead:
		op.outcome, op.end, op.receipt, op.via = Done, time.Now(), receipt, b.name
		if again {
			op.via = ""
		}
	case !dead && !again && (kind == drainmark.KindUnavailable || kind == drainmark.KindBacklogFull || kind == drainmark.KindDiskFull):
		op.outcome = Refused
	default:
		op.outcome = Unknown
	}
}

func (op *Op) records() []drainmark.Record {
	records := make([]drainmark.Record, len(op.contents))
	for i, content := range op.contents {
		records[i] = drainmark.Record{Kind: drainmark.Append, Log: op.log, Body: []byte(content)}
		if op.key != "" {
			records[i].Key = fmt.Sprint(op.key, "/", i)
		}
	}
	return records
}

func (w *World) clear(ctx context.Context, number int, place string) {
	op := &Op{client: number, clear: true, log: "cleared", start: time.Now(), outcome: Unknown}
	w.record(op)
	b := w.anyBackend(place + " backend")
	call, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	receipt, err := b.Publish(call, drainmark.Record{Kind: drainmark.Clear, Log: op.log})
	w.settle(op, b, receipt, err, false)
}

func (w *World) record(op *Op) {
	op.outcome = Unknown
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ops = append(w.ops, op)
}

// barrier asks for a barrier, waits a while, and when it is reached reads once and checks (P5).
func (w *World) barrier(ctx context.Context, place string) {
	b := w.anyBackend(place + " backend")
	asked := time.Now()
	call, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	receipt, err := b.Barrier(call, nil)
	for try := 0; err == nil && try < 3; try++ {
		var status backend.Status
		before := w.rolledBack.Load()
		status, err = b.Status(call, receipt, w.dice.duration(place+" waits", 4*time.Second))
		if err != nil || status.State != backend.Persisted {
			receipt = status.Receipt
			continue
		}
		for _, log := range logNames {
			page, err := read(call, b, log, nil, 0)
			if drainmark.KindOf(err) == drainmark.KindNotFound {
				page, err = store.Page{}, nil
			}
			if err == nil && w.rolledBack.Load() == before {
				w.see(page)
				w.checkShows("P5: a barrier asked for at "+clock(asked)+" was reached", log, page, asked)
			}
		}
		return
	}
}

// readBack reads through the receipt of an earlier op and checks that the page holds it (P6).
func (w *World) readBack(ctx context.Context, place string, op *Op) {
	w.mu.Lock()
	outcome := op.outcome
	w.mu.Unlock()
	if outcome != Done {
		return
	}
	b := w.anyBackend(place + " backend")
	call, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	page, err := read(call, b, op.log, &op.receipt, w.dice.duration(place+" waits", 6*time.Second))
	if err != nil {
		return
	}
	w.see(page)
	for _, content := range op.contents {
		if !w.shows(page, content) && !w.mayBeAbsent(op, content) {
			w.violation("P6: a read with the receipt of %s in %s does not show it", content, op.log)
		}
	}
}

// see remembers where messages stood, and checks that none has moved (P4).
func (w *World) see(page store.Page) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range page.Messages {
		w.sightings = append(w.sightings, sighting{page.Log.Name, m.Position, string(m.Body)})
	}
}

func (w *World) shows(page store.Page, content string) bool {
	for _, m := range page.Messages {
		if string(m.Body) == content {
			return true
		}
	}
	return false
}

func clock(t time.Time) string { return t.Format("15:04:05.000") }
