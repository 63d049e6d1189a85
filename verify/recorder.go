package verify

import (
	"context"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/drainmark/drainmark/client"
	"github.com/drainmark/drainmark/verify/check"
	"github.com/drainmark/drainmark/verify/history"
)

// recorder reads, and writes down what it was shown. Its methods may be called by many goroutines.
type recorder struct {
	id         string // of the run, in every message
	begun      time.Time
	targets    []*client.Client
	out        *history.Writer
	display    *display
	rows       *rows // nil if no table is looked at
	suspicions atomic.Int64
}

// since returns how long the run has lasted, by the monotonic clock.
func (r *recorder) since() time.Duration { return time.Since(r.begun) }

// readPage reads a page as read says, and writes down what it shows.
func (r *recorder) readPage(ctx context.Context, l *log, read *history.Read, options client.ReadOptions) (client.Page, error) {
	options.After, options.Limit = read.After, read.Limit
	read.Start = r.since()
	p, err := r.targets[read.Target].Messages(ctx, l.Name, options)
	read.End = r.since()
	if client.KindOf(err) == client.NotFound {
		err = nil // nobody has written to it: an empty log
	}
	read.Backend = p.Backend
	if read.Outcome = history.Done; err != nil {
		read.Outcome, read.Error, read.Status = history.Refused, err.Error(), statusOf(err) // a read does nothing
		r.out.Write(history.Line{Read: read})
		return p, err
	}
	read.Last, read.Total = p.LastPosition, p.Count
	l.saw(p.LastPosition)
	r.record(read, p.Messages)
	return p, nil
}

// record writes a read with what it has shown: one line for each part without a gap.
func (r *recorder) record(read *history.Read, messages []client.Message) {
	for begin := 0; ; {
		end := begin
		for end < len(messages) && (end == begin || messages[end].Position == messages[end-1].Position+1) {
			end++
		}
		part := *read
		if begin < end {
			part.From = messages[begin].Position
		}
		part.Gap = begin > 0
		if r.rows != nil && read.Final > 0 {
			part.IDs = r.identify(messages[begin:end], read.Final == 1)
		}
		for i := begin; i < end; i++ {
			part.Bytes += len(messages[i].Body)
			text, wrong := r.look(&messages[i])
			part.Seen = append(part.Seen, text)
			if wrong != "" {
				if part.Faults == nil {
					part.Faults = map[uint64]string{}
				}
				part.Faults[messages[i].Position] = wrong
			}
		}
		r.out.Write(history.Line{Read: &part})
		if begin = end; begin == len(messages) {
			return
		}
	}
}

// identify returns the ids of messages of a final reading, as runs. Those of the first one must be in the table.
func (r *recorder) identify(messages []client.Message, first bool) []string {
	ids, own := make([]string, len(messages)), []string{}
	for i := range messages {
		m := &messages[i]
		ids[i] = m.ID
		if is, _ := history.Recognise(r.id, m.Body, m.ContentType, m.Headers); is != history.Nobody && first {
			own = append(own, m.ID)
		}
	}
	r.rows.want(history.Runs(own))
	return history.Runs(ids)
}

var digestTable = crc32.MakeTable(crc32.Castagnoli)

// look says which message it is, in the form of the history, and what is wrong with it. The time when it was persisted
// is not part of its digest. A read may show a state whose commit is not yet confirmed, and that a failover takes back.
// The message persisted then, at the same position, is the same one at another time.
func (r *recorder) look(m *client.Message) (seen, wrong string) {
	s := history.Seen{}
	s.Message, wrong = history.Recognise(r.id, m.Body, m.ContentType, m.Headers)
	if s.Damaged = wrong != ""; s.Damaged {
		r.suspect("P1: position %d: %s", m.Position, wrong)
	}
	digest := crc32.Checksum(m.Body, digestTable)
	for _, part := range []string{m.ID, m.ContentType, m.AcceptedAt.Format(time.RFC3339Nano)} {
		digest = crc32.Update(digest, digestTable, []byte(part))
		digest = crc32.Update(digest, digestTable, []byte{0})
	}
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		digest = crc32.Update(digest, digestTable, []byte(name+":"+m.Headers[name]+"\n"))
	}
	s.Digest = digest
	return s.String(), wrong
}

// suspect shows at once what looks like a broken promise, for the first few times. The checks, which know everything,
// judge it afterwards.
func (r *recorder) suspect(format string, args ...any) {
	if r.suspicions.Add(1) <= check.MaxExamples {
		r.display.say("looks broken: " + fmt.Sprintf(format, args...))
	}
}
