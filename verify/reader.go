package verify

import (
	"context"
	"fmt"
	"hash/maphash"
	"time"
)

// The two readings have pages of different sizes, so that what happens at a page's end happens somewhere else.
const (
	firstPages  = 1000
	secondPages = 337
)

// readFirst is step 5.
func (r *runner) readFirst(ctx context.Context) (err error) {
	r.history.first, err = r.readAll(ctx, firstPages)
	return err
}

// readAgain is the reading of step 6; the checks follow when the report is made.
func (r *runner) readAgain(ctx context.Context) (err error) {
	r.history.second, err = r.readAll(ctx, secondPages)
	return err
}

// digestSeed is one for the whole program: only digests of one run are ever compared.
var digestSeed = maphash.MakeSeed()

// readAll reads the log from its beginning to the position that the first page calls the last.
func (r *runner) readAll(ctx context.Context, limit int) (*reading, error) {
	began := time.Now()
	r.read.Store(0)
	out := &reading{limit: limit, messages: make([]seen, 0, len(r.history.appends)), faults: map[uint64]string{}, strangers: []Foreign{}}
	var digest maphash.Hash
	digest.SetSeed(digestSeed)
	for after, begun := uint64(0), false; ; begun = true {
		var p page
		err := r.retry(ctx, func() (err error) {
			p, err = r.api.messages(ctx, r.config.Log, after, limit, r.receipt, true)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("reading the log behind position %d: %w", after, err)
		}
		if !begun {
			out.lastPosition = p.LastPosition
		}
		for i := range p.Messages {
			if p.Messages[i].Position <= out.lastPosition {
				out.messages = append(out.messages, r.look(&p.Messages[i], out, &digest))
			}
		}
		r.read.Store(int64(len(out.messages)))
		if len(p.Messages) == 0 {
			break
		}
		next := p.Messages[len(p.Messages)-1].Position
		if next <= after || next >= out.lastPosition {
			break
		}
		after = next
	}
	out.took = time.Since(began)
	return out, nil
}

// look takes down a message, and for the first few, what is wrong with it.
func (r *runner) look(m *pageMessage, out *reading, digest *maphash.Hash) seen {
	body := m.bytes()
	s := seen{position: m.Position}
	var fault string
	s.message, s.condition, fault = r.history.recognise(r.run, body, m.ContentType)
	switch {
	case s.condition == damaged && len(out.faults) < MaxExamples:
		out.faults[m.Position] = fault
	case s.condition == foreign && len(out.strangers) < MaxExamples:
		out.strangers = append(out.strangers, Foreign{Position: m.Position, ID: m.ID, Begins: fmt.Sprintf("%.60q", body)})
	}
	digest.Reset()
	for _, part := range []string{m.ID, m.ContentType, m.AcceptedAt} {
		_, _ = digest.WriteString(part) // never fails, says its documentation
		_ = digest.WriteByte(0)
	}
	_, _ = digest.Write(body)
	s.digest = digest.Sum64()
	return s
}
