package postgres

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// selectProgress reads a partition's progress, one row for each producer, in one statement and so from one state.
const selectProgress = `SELECT p.token, p.revision, p.cursor, p.rejected, p.set_aside, p.clock, p.trouble,
	g.producer, g.done::text, g.last_at
FROM drainmark.partitions p LEFT JOIN drainmark.progress g ON g.partition = p.partition WHERE p.partition = $1`

// scanProgress reads the rows of selectProgress: none are the zero progress.
func scanProgress(rows pgx.Rows, p *drainmark.Progress) error {
	var token, revision, rejected, aside, clock int64
	var cursor []byte
	var trouble string
	var producer pgtype.UUID
	var done *string
	var lastAt *int64
	columns := []any{&token, &revision, &cursor, &rejected, &aside, &clock, &trouble, &producer, &done, &lastAt}
	_, err := pgx.ForEachRow(rows, columns, func() error {
		if p.Producers == nil {
			p.Version = drainmark.Version{Token: uint64(token), Revision: uint64(revision)}
			p.Cursor, p.Rejected, p.SetAside, p.Clock = drainmark.Cursor(cursor), uint64(rejected), uint64(aside), span(clock)
			p.Producers = map[drainmark.ProducerID]drainmark.ProducerProgress{}
			var err error
			if p.Trouble, err = drainmark.DecodeTrouble(trouble); err != nil {
				return store.Misconfigured("the progress of partition %d: %w: Drainmark did not write that", p.Partition, err)
			}
		}
		if !producer.Valid || done == nil || lastAt == nil {
			return nil // there is no producer
		}
		ranges, err := parseRanges(*done)
		p.Producers[producer.Bytes] = drainmark.ProducerProgress{Done: ranges, LastAt: span(*lastAt)}
		return err
	})
	return err
}

// span is a time of the partition's clock, which is stored in microseconds.
func span(microseconds int64) time.Duration { return time.Duration(microseconds) * time.Microsecond }

// rangesText writes a set of sequences as a multirange: {[1,501),[502,901)}. The highest sequence that there can be has
// none behind it, so its range has no end.
func rangesText(ranges drainmark.Ranges) string {
	b := []byte{'{'}
	for i, r := range ranges {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(append(b, '['), r.First, 10)
		if b = append(b, ','); r.Last < math.MaxInt64 {
			b = strconv.AppendUint(b, r.Last+1, 10)
		}
		b = append(b, ')')
	}
	return string(append(b, '}'))
}

// parseRanges reads what the server makes of it.
func parseRanges(text string) (drainmark.Ranges, error) {
	bad := store.Misconfigured("the progress of a producer is %.80q: Drainmark did not write that", text)
	inner, opened := strings.CutPrefix(text, "{")
	inner, closed := strings.CutSuffix(inner, "}")
	if !opened || !closed {
		return nil, bad
	}
	if inner == "" {
		return nil, nil
	}
	var ranges drainmark.Ranges
	for part := range strings.SplitSeq(strings.TrimSuffix(inner, ")"), "),") {
		first, end, ok := strings.Cut(strings.TrimPrefix(part, "["), ",")
		from, err := strconv.ParseUint(first, 10, 64)
		last := uint64(math.MaxInt64)
		if end != "" && err == nil {
			last, err = strconv.ParseUint(end, 10, 64)
			last--
		}
		if !ok || err != nil {
			return nil, bad
		}
		ranges = append(ranges, drainmark.Range{First: from, Last: last})
	}
	return ranges, nil
}
