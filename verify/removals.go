package verify

import (
	"bytes"
	"context"
	"fmt"
	mathrand "math/rand/v2"
	"strconv"
	"time"

	"github.com/drainmark/drainmark/client"
	"github.com/drainmark/drainmark/verify/history"
)

const (
	removalEvery = 200 * time.Millisecond // between two calls of the client that removes, about
	mostKept     = 200                    // how many messages its log has at most, about
	mostRemoved  = 16                     // how many logs it uses: after an unknown outcome it begins another one
)

// remover is a client that appends to a log of its own, trims it, erases in it, deletes it, and reads it after each of that.
// Nobody else writes there and it makes one call after the other, so what it must read is known exactly.
type remover struct {
	*runner
	random   *mathrand.Rand
	client   int
	target   int
	log      string
	number   uint64         // of the last message
	receipts client.Receipt // of all that it has done to the log
	first    uint64         // the positions that it was shown last
	last     uint64
}

// remove plays the client that removes until ctx ends. Its logs have the run's name in theirs, so they are new, and are
// deleted at the end.
func (r *runner) remove(ctx context.Context, by int) {
	m := &remover{runner: r, client: by, random: r.config.random("removals", 0)}
	for i := range mostRemoved {
		m.log = fmt.Sprintf("%s-removed-%s-%d", r.config.Log, r.id, i+1)
		m.receipts, m.first, m.last = "", 0, 0
		again := m.play(ctx)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), waitFor)
		_, _ = m.targets[m.target].Delete(last, m.log, 0) // what is left does no harm
		cancel()
		if !again {
			return
		}
	}
}

// play plays with one log, and says whether to begin another one: after an outcome that nobody knows.
func (m *remover) play(ctx context.Context) bool {
	known := true
	for known && pause(ctx, removalEvery/2+time.Duration(m.random.Int64N(int64(removalEvery)))) == nil {
		known = m.do(ctx, m.next()) && m.read(ctx)
	}
	return !known && ctx.Err() == nil
}

// next returns what to do next.
func (m *remover) next() history.Removal {
	kept := m.last + 1 - m.first
	switch dice := m.random.IntN(20); {
	case m.last == 0 || m.first > m.last || dice < 11 && kept < mostKept:
		return history.Removal{Kind: "append"}
	case dice < 15 || kept >= mostKept:
		return history.Removal{Kind: "trim", Position: m.first + m.random.Uint64N(kept+1)}
	case dice < 19:
		return history.Removal{Kind: "erase", Position: m.first + m.random.Uint64N(kept+1)}
	}
	return history.Removal{Kind: "delete"}
}

// do makes a call, waits until it is persisted, and says whether it is known what came of it.
func (m *remover) do(ctx context.Context, d history.Removal) bool {
	m.target = m.random.IntN(len(m.targets))
	target := m.targets[m.target]
	d.Call, d.Log = history.Call{Client: m.client, Target: m.target, Start: m.since()}, m.log
	var s client.Status
	var err error
	switch d.Kind {
	case "append":
		m.number++
		d.Number = m.number
		s, err = target.Append(ctx, m.log, client.Message{
			Body: removalBody(m.number), ContentType: history.TextType, Key: fmt.Sprintf("%s/removal-%d", m.id, m.number),
		}, 0)
	case "trim":
		s, err = target.Trim(ctx, m.log, d.Position, 0)
	case "erase":
		s, err = target.Erase(ctx, m.log, d.Position, 0)
	case "delete":
		s, err = target.Delete(ctx, m.log, 0)
	}
	d.End, d.Backend, d.Outcome = m.since(), s.Backend, history.Done
	if err != nil {
		d.Error, d.Status, d.Outcome = err.Error(), statusOf(err), outcomeOf(err)
	} else if m.await(ctx, m.target, s.Receipt, func(string) {}) == nil {
		d.Settled = string(client.Persisted)
	}
	m.receipts = client.Merge(m.receipts, s.Receipt)
	m.out.Write(history.Line{Removal: &d})
	return d.Outcome == history.Refused || d.Settled != ""
}

func removalBody(number uint64) []byte {
	return fmt.Appendf(nil, "drainmark-verify removal %d", number)
}

// read reads the log, from a state that has all that was done to it.
func (m *remover) read(ctx context.Context) bool {
	m.target = m.random.IntN(len(m.targets))
	d := history.Removal{
		Call: history.Call{Client: m.client, Target: m.target, Start: m.since(), Outcome: history.Done}, Log: m.log, Kind: "read",
	}
	options := client.ReadOptions{Limit: 1000, Receipts: m.receipts, Wait: waitFor}
	page, err := m.targets[m.target].Messages(ctx, m.log, options)
	d.End, d.Backend = m.since(), page.Backend
	switch {
	case client.KindOf(err) == client.NotFound:
		d.Gone = true
	case err != nil:
		d.Error, d.Status, d.Outcome = err.Error(), statusOf(err), history.Refused
	default:
		d.First, d.Last, d.Count, d.Shown = page.FirstPosition, page.LastPosition, page.Count, shownOf(page.Messages)
		m.first, m.last = page.FirstPosition, page.LastPosition
	}
	m.out.Write(history.Line{Removal: &d})
	return true
}

// shownOf says what a page shows.
func shownOf(messages []client.Message) []history.Shown {
	var shown []history.Shown
	for i := range messages {
		s := history.Shown{Position: messages[i].Position, Erased: messages[i].Erased, Empty: len(messages[i].Body) == 0}
		if text, ok := bytes.CutPrefix(messages[i].Body, []byte("drainmark-verify removal ")); ok {
			s.Number, _ = strconv.ParseUint(string(text), 10, 64)
		}
		shown = append(shown, s)
	}
	return shown
}
