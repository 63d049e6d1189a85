package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// selectPage reads a log's head and a page in one statement, and so from one state. The server ends the page when its
// bodies are large, whose lengths it knows without reading them. Headers, which are small, are counted when they have
// come.
const selectPage = `SELECT l.last_position, l.cleared_through, l.erasures, l.deleted, l.partition, p.token, p.revision,
	m.position, m.producer, m.sequence, m.accepted_at, m.persisted_at, m.content_type, m.body, m.headers::text, m.erased
FROM drainmark.logs l JOIN drainmark.partitions p ON p.partition = l.partition
LEFT JOIN LATERAL (
	SELECT *, sum(octet_length(body)) OVER (ORDER BY position) AS size, row_number() OVER (ORDER BY position) AS n FROM (
		SELECT * FROM drainmark.messages
		WHERE log = l.id AND position > greatest($2, l.cleared_through) AND position <= l.last_position
		ORDER BY position LIMIT $3) s
) m ON m.size <= $4 OR m.n = 1
WHERE l.name = $1 ORDER BY m.position`

// Messages implements store.Reader.
func (r *Reader) Messages(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
	return readFrom(ctx, r, "reading messages", func(ctx context.Context, c *pgx.Conn) (store.Page, error) {
		limit := max(limit, 0)
		rows, err := c.Query(ctx, r.sql(selectPage), log, int64(min(after, math.MaxInt64)), limit, store.PageBytes)
		if err != nil {
			return store.Page{}, err
		}
		page := store.Page{Log: drainmark.LogInfo{Name: log}}
		found, err := scanPage(rows, &page, limit)
		if err == nil && !found {
			err = fmt.Errorf("log %q: %w", log, store.ErrNotFound)
		}
		if err == nil {
			err = checkPage(&page, after, limit)
		}
		return page, err
	})
}

// line is one row of a page. The columns of a message are empty if there is none.
type line struct {
	last, cleared, erasures, token, revision int64
	deleted                                  bool
	partition                                int
	position, sequence                       *int64
	producer                                 pgtype.UUID
	accepted, persisted                      *time.Time
	contentType                              *string
	body                                     []byte
	headers                                  *string
	erased                                   *bool
}

// message returns the row's message.
func (l *line) message(headers *headersReader) (m drainmark.Message, err error) {
	m = drainmark.Message{
		Position: uint64(*l.position),
		Mark:     drainmark.Mark{Partition: l.partition, Producer: l.producer.Bytes, Sequence: uint64(*l.sequence)},
		Body:     l.body, ContentType: *l.contentType, AcceptedAt: *l.accepted, PersistedAt: *l.persisted,
		Erased: *l.erased,
	}
	if m.Headers, err = headers.read(l.headers); err != nil {
		err = store.Misconfigured("the headers of the message at position %d are damaged: %w; bring back a copy of the database",
			m.Position, err)
	}
	return m, err
}

// headersReader reads headers, which many messages share with the one before.
type headersReader struct {
	text string
	last drainmark.Headers
}

func (r *headersReader) read(text *string) (drainmark.Headers, error) {
	if text == nil {
		return drainmark.Headers{}, nil
	}
	if *text != r.text {
		var headers drainmark.Headers
		if err := json.Unmarshal([]byte(*text), &headers); err != nil {
			return headers, err
		}
		r.text, r.last = *text, headers
	}
	return r.last, nil
}

// scanPage reads the rows, and says whether there is such a log.
func scanPage(rows pgx.Rows, page *store.Page, limit int) (found bool, err error) {
	var l line
	var headers headersReader
	size := 0
	columns := []any{
		&l.last, &l.cleared, &l.erasures, &l.deleted, &l.partition, &l.token, &l.revision,
		&l.position, &l.producer, &l.sequence, &l.accepted, &l.persisted, &l.contentType, &l.body, &l.headers, &l.erased,
	}
	_, err = pgx.ForEachRow(rows, columns, func() error {
		found = true
		page.Log.LastPosition, page.Log.ClearedThrough = uint64(l.last), uint64(l.cleared)
		page.Log.Erasures, page.Log.Deleted = uint64(l.erasures), l.deleted
		page.Version = drainmark.Version{Token: uint64(l.token), Revision: uint64(l.revision)}
		if l.position == nil {
			return nil
		}
		if page.Messages == nil {
			page.Messages = make([]drainmark.Message, 0, min(uint64(limit), page.Log.LastPosition))
		}
		m, err := l.message(&headers)
		if size += m.Size(); size <= store.PageBytes || len(page.Messages) == 0 {
			page.Messages = append(page.Messages, m)
		}
		return err
	})
	return found, err
}

// checkPage refuses a page with a gap, or that is shorter than it must be: the log would seem to be so.
func checkPage(page *store.Page, after uint64, limit int) error {
	after = max(after, page.Log.ClearedThrough)
	if after >= page.Log.LastPosition || limit == 0 {
		return nil
	}
	next := after + 1
	for i := range page.Messages {
		if page.Messages[i].Position != next {
			return goneFrom(page.Log.Name, next)
		}
		next++
	}
	if len(page.Messages) == 0 {
		return goneFrom(page.Log.Name, next)
	}
	return nil
}

func goneFrom(log string, position uint64) error {
	return store.Misconfigured("log %q: the message at position %d is gone; bring back a copy of the database", log, position)
}
