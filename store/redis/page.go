package redis

import (
	"context"
	"fmt"
	"strconv"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// firstPart is how many messages of a page are asked for at first. Their size says how many the next part may have, so
// that a page of large ones is not read far beyond PageBytes.
const firstPart = 64

// Messages implements store.Reader. It asks the server for plain ranges of the stream, in one step or two: a script
// would have to turn every message into Lua's values and back.
func (r *Reader) Messages(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
	return use(ctx, r.client, "reading messages", func(ctx context.Context, c conn) (store.Page, error) {
		p := pager{reader: r, log: log, after: after, limit: limit}
		err := p.read(ctx, c)
		return p.page, err
	})
}

// pager puts a page together. It is always what the newest of the states that it was read from holds: messages never move,
// and change only with an erasure. So those that were read before are in the newest too, unless they have been cleared
// meanwhile.
type pager struct {
	reader *Reader
	log    string
	after  uint64
	limit  int

	page store.Page
	size int // of the messages
}

func (p *pager) read(ctx context.Context, c conn) error {
	for part := min(p.limit, firstPart); ; part = p.next() {
		done, err := p.readPart(ctx, c, max(part, 1))
		if err != nil || done {
			return err
		}
	}
}

// next returns how many more messages should be asked for, going by those that there are.
func (p *pager) next() int {
	have := len(p.page.Messages)
	average := max(p.size/max(have, 1), 1)
	return min(p.limit-have, max((store.PageBytes-p.size)/average, 1))
}

// readPart reads up to so many messages behind those that there are, and says whether the page is complete.
func (p *pager) readPart(ctx context.Context, c conn, part int) (done bool, err error) {
	last := p.after
	if n := len(p.page.Messages); n > 0 {
		last = p.page.Messages[n-1].Position
	}
	partition := 0
	replies, err := p.reader.snapshot(ctx, c, func(d *deployment) [][]any {
		partition = drainmark.PartitionOf(p.log, d.Partitions)
		at := p.reader.names.of(partition)
		from := strconv.FormatUint(last, 10) + "-1" // behind last-0
		return [][]any{
			command("HMGET", at.state, "epoch", "revision"),
			command("HGET", at.logs, p.log),
			command("XRANGE", at.stream+p.log, from, "+", "COUNT", part),
			command("ZRANGE", at.aside+p.log, "("+strconv.FormatUint(last, 10), "+inf", "BYSCORE", "LIMIT", 0, part),
		}
	})
	if err != nil {
		return false, err
	}
	again, err := p.head(replies[0], replies[1])
	if err != nil || again {
		return false, err
	}
	messages, err := merge(partition, part, replies[2].list(), replies[3].list())
	if err != nil {
		return false, err
	}
	for _, m := range messages {
		if full := p.add(m); full {
			return true, nil
		}
		last = m.Position
	}
	if len(messages) == 0 || last >= p.page.Log.LastPosition || len(p.page.Messages) >= p.limit {
		return true, nil
	}
	if len(p.page.Messages) == 0 {
		p.after = max(last, p.page.Log.ClearedThrough) // all that was read is cleared and not swept yet
	}
	return false, nil
}

// merge puts what is in the stream and what is aside into the order of positions, up to the first end of the two where more
// may follow: so many of each were asked for.
func merge(partition, part int, stream, aside []any) ([]drainmark.Message, error) {
	messages := make([]drainmark.Message, 0, len(stream)+len(aside))
	var next, beside drainmark.Message // of each, or the zero one
	for i, k := 0, 0; ; {
		var err error
		if i < len(stream) && next.Position == 0 {
			next, err = parseMessage(partition, reply{stream[i]})
		}
		if k < len(aside) && beside.Position == 0 && err == nil {
			beside, err = parseAside(partition, reply{aside[k]})
		}
		switch {
		case err != nil:
			return nil, err
		case i == part || k == part || next.Position == 0 && beside.Position == 0:
			return messages, nil
		case beside.Position == 0 || next.Position > 0 && next.Position < beside.Position:
			messages, next, i = append(messages, next), drainmark.Message{}, i+1
		default:
			messages, beside, k = append(messages, beside), drainmark.Message{}, k+1
		}
	}
}

// head takes over the log and the version of a newer state. It drops what has been cleared. If the new state is no
// successor of the one before, such as that of a server which goes on from an older state, or something was erased between
// them, it drops everything, and the page begins again.
func (p *pager) head(state, info reply) (again bool, err error) {
	if info.isNil() {
		return false, fmt.Errorf("log %q: %w", p.log, store.ErrNotFound)
	}
	var version drainmark.Version
	if version.Token, err = state.at(0).number(); err != nil {
		return false, err
	}
	if version.Revision, err = state.at(1).number(); err != nil {
		return false, err
	}
	erasures := p.page.Log.Erasures
	if p.page.Log, err = parseLog(p.log, info); err != nil {
		return false, err
	}
	again = len(p.page.Messages) > 0 && (!version.Includes(p.page.Version) || p.page.Log.Erasures != erasures)
	p.page.Version = version
	if again {
		p.page.Messages, p.size = nil, 0
		return true, nil
	}
	for len(p.page.Messages) > 0 && p.page.Messages[0].Position <= p.page.Log.ClearedThrough {
		p.size -= p.page.Messages[0].Size()
		p.page.Messages = p.page.Messages[1:]
	}
	return false, nil
}

// add puts a message on the page unless it has been cleared, and says whether the page is full.
func (p *pager) add(m drainmark.Message) (full bool) {
	if m.Position <= p.page.Log.ClearedThrough {
		return false
	}
	if len(p.page.Messages) >= p.limit || len(p.page.Messages) > 0 && p.size+m.Size() > store.PageBytes {
		return true
	}
	if p.page.Messages == nil {
		p.page.Messages = make([]drainmark.Message, 0, min(uint64(p.limit), p.page.Log.LastPosition-m.Position+1))
	}
	p.page.Messages = append(p.page.Messages, m)
	p.size += m.Size()
	return false
}
