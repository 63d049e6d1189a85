package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// readPage reads a page of a log, in a snapshot.
func readPage(ctx context.Context, c *conn, log string, after uint64, limit int) (store.Page, error) {
	const head = `SELECT l.id, l.last_position, l.cleared_through, l.partition, p.epoch, p.revision, l.erasures, l.deleted
		FROM logs l JOIN partitions p ON p.partition = l.partition WHERE l.name = ?`
	page := store.Page{Log: drainmark.LogInfo{Name: log}}
	row, err := c.one(ctx, head, log)
	if err != nil {
		return page, err
	}
	if row == nil {
		return page, fmt.Errorf("log %q: %w", log, store.ErrNotFound)
	}
	page.Log.LastPosition, page.Log.ClearedThrough = number(row[1]), number(row[2])
	page.Log.Erasures, page.Log.Deleted = number(row[6]), truth(row[7])
	page.Version = drainmark.Version{Token: number(row[4]), Revision: number(row[5])}
	id, partition := integer(row[0]), int(integer(row[3]))
	after = max(after, page.Log.ClearedThrough)
	if after >= page.Log.LastPosition || limit < 1 {
		return page, nil
	}
	limit = int(min(uint64(limit), page.Log.LastPosition-after))
	page.Messages, err = readMessages(ctx, c, id<<positionBits|int64(after), limit, partition)
	if err != nil {
		return page, fmt.Errorf("log %q: %w", log, err)
	}
	return page, nil
}

// readMessages reads up to limit messages whose keys follow after. The caller knows that there are so many.
func readMessages(ctx context.Context, c *conn, after int64, limit, partition int) ([]drainmark.Message, error) {
	const query = `SELECT id, producer, sequence, accepted_at, persisted_at, content_type, body, headers, erased
		FROM messages WHERE id > ? ORDER BY id LIMIT ?`
	messages := make([]drainmark.Message, 0, limit)
	producers := make([]int64, 0, limit)
	size, full := 0, false
	var headers headersReader
	err := c.each(ctx, query, []any{after, limit}, func(row []driver.Value) error {
		if integer(row[0]) != after+int64(len(messages))+1 {
			return errEnough
		}
		m := drainmark.Message{
			Position: number(row[0]) & maxPosition, Mark: drainmark.Mark{Partition: partition, Sequence: number(row[2])},
			Body: blob(row[6]), ContentType: text(row[5]), AcceptedAt: moment(row[3]), PersistedAt: moment(row[4]),
			Erased: truth(row[8]),
		}
		var err error
		if m.Headers, err = headers.read(row[7]); err != nil {
			return store.Misconfigured("the headers of the message at position %d of %s are damaged: %w; bring back a copy of it",
				m.Position, c.path, err)
		}
		if size += m.Size(); size > store.PageBytes && len(messages) > 0 {
			full = true
			return errEnough
		}
		messages = append(messages, m)
		producers = append(producers, integer(row[1]))
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(messages) < limit && !full { // the log would seem to have a gap, or to be shorter than it is
		return nil, store.Misconfigured("the message at position %d is gone from %s; bring back a copy of it",
			(after+int64(len(messages))+1)&maxPosition, c.path)
	}
	return messages, nameProducers(ctx, c, messages, producers)
}

// headersReader reads headers, which many messages share with the one before.
type headersReader struct {
	text string
	last drainmark.Headers
}

func (r *headersReader) read(v driver.Value) (drainmark.Headers, error) {
	switch s := text(v); s {
	case "":
		return drainmark.Headers{}, nil
	case r.text:
	default:
		var headers drainmark.Headers
		if err := headers.UnmarshalJSON([]byte(s)); err != nil {
			return headers, err
		}
		r.text, r.last = s, headers
	}
	return r.last, nil
}

// nameProducers fills in the producers. A page has few.
func nameProducers(ctx context.Context, c *conn, messages []drainmark.Message, ids []int64) error {
	names := map[int64]drainmark.ProducerID{}
	for i, id := range ids {
		name, known := names[id]
		if !known {
			row, err := c.one(ctx, "SELECT producer FROM producers WHERE id = ?", id)
			if err != nil {
				return err
			}
			if row == nil {
				return store.Misconfigured("a producer of messages is gone from %s; bring back a copy of it", c.path)
			}
			copy(name[:], blob(row[0]))
			names[id] = name
		}
		messages[i].Mark.Producer = name
	}
	return nil
}
