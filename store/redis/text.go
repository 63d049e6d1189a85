package redis

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// Everything is kept as text that a person can read with redis-cli. Times are microseconds since the Unix epoch.

// scanner reads words that are separated by spaces. After the first fault it is bad and yields zeros.
type scanner struct {
	rest string
	bad  bool
}

func (s *scanner) word() string {
	word, rest, _ := strings.Cut(s.rest, " ")
	s.rest = rest
	return word
}

func (s *scanner) unsigned() uint64 {
	n, err := strconv.ParseUint(s.word(), 10, 64)
	s.bad = s.bad || err != nil
	return n
}

func (s *scanner) signed() int64 {
	n, err := strconv.ParseInt(s.word(), 10, 64)
	s.bad = s.bad || err != nil
	return n
}

// lengths reads "<number>", or "<number>+<number>".
func (s *scanner) lengths() (first, second int) {
	one, two, both := strings.Cut(s.word(), "+")
	n, err := strconv.ParseUint(one, 10, 31)
	s.bad = s.bad || err != nil
	if both {
		m, err := strconv.ParseUint(two, 10, 31)
		s.bad = s.bad || err != nil
		second = int(m)
	}
	return int(n), second
}

func (s *scanner) moment() time.Time { return moment(s.signed()) }

func (s *scanner) truth() bool { return s.word() == "1" }

// hex reads a word of just as many bytes as into has.
func (s *scanner) hex(into []byte) {
	word := s.word()
	if len(word) != hex.EncodedLen(len(into)) {
		s.bad = true
		return
	}
	_, err := hex.Decode(into, []byte(word))
	s.bad = s.bad || err != nil
}

// quoted reads what strconv.Quote wrote.
func (s *scanner) quoted() string {
	prefix, err := strconv.QuotedPrefix(s.rest)
	if err != nil {
		s.bad = true
		return ""
	}
	s.rest = strings.TrimPrefix(s.rest[len(prefix):], " ")
	text, err := strconv.Unquote(prefix)
	s.bad = s.bad || err != nil
	return text
}

func moment(micros int64) time.Time { return time.UnixMicro(micros).UTC() }

func truthText(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// errForeign is of a value that was not written by this version of the adapter.
var errForeign = store.Misconfigured("it was not written by this version of Drainmark")

// parseProducer reads "<last time> 1-500,502-900".
func parseProducer(text string) (drainmark.ProducerProgress, error) {
	s := scanner{rest: text}
	p := drainmark.ProducerProgress{LastAt: time.Duration(s.signed()) * time.Microsecond}
	var err error
	if p.Done, err = drainmark.ParseRanges(s.rest); err != nil {
		s.bad = true
	}
	if s.bad {
		return p, fmt.Errorf("a producer's progress: %w", errForeign)
	}
	return p, nil
}

// appendMessage writes what a message has besides its position and its body, as
// "<sequence> <accepted> <persisted-accepted> <producer> <length of the content type> <content type>\n". The body
// follows. With headers, "+<their length>" stands behind the length of the content type, and they stand behind the
// content type.
func appendMessage(dst []byte, m *drainmark.Message) []byte {
	accepted := m.AcceptedAt.UnixMicro()
	dst = strconv.AppendUint(dst, m.Mark.Sequence, 10)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, accepted, 10)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, m.PersistedAt.UnixMicro()-accepted, 10)
	dst = append(dst, ' ')
	dst = hex.AppendEncode(dst, m.Mark.Producer[:])
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, int64(len(m.ContentType)), 10)
	if !m.Headers.IsZero() {
		dst = strconv.AppendInt(append(dst, '+'), int64(m.Headers.Size()), 10)
	}
	dst = append(dst, ' ')
	dst = append(dst, m.ContentType...)
	dst = append(dst, m.Headers.String()...)
	return append(dst, '\n')
}

// headBytes bounds what appendMessage writes before the content type.
const headBytes = 20 + 1 + 20 + 1 + 20 + 1 + 32 + 1 + 20 + 1 + 20 + 1

// erasedMark stands behind the producer in place of the rest of an erased message.
const erasedMark = "erased\n"

// parseAside reads "<position> <message>", of a message that is in no stream.
func parseAside(partition int, member reply) (drainmark.Message, error) {
	position, value, _ := strings.Cut(member.String(), " ")
	return parseValue(partition, position, value)
}

// parseMessage reads an entry of a stream. The result shares no memory with the entry.
func parseMessage(partition int, entry reply) (m drainmark.Message, err error) {
	position, _, _ := strings.Cut(entry.at(0).String(), "-")
	return parseValue(partition, position, entry.at(1).at(1).String())
}

func parseValue(partition int, position, value string) (m drainmark.Message, err error) {
	s := scanner{rest: value[:min(len(value), headBytes)]}
	before := len(s.rest)
	m.Position, err = strconv.ParseUint(position, 10, 64)
	m.Mark.Partition, m.Mark.Sequence = partition, s.unsigned()
	accepted := s.signed()
	m.AcceptedAt, m.PersistedAt = moment(accepted), moment(accepted+s.signed())
	s.hex(m.Mark.Producer[:])
	if m.Erased = s.rest == erasedMark; m.Erased && err == nil && !s.bad {
		return m, nil
	}
	contentType, headers := s.lengths()
	head := before - len(s.rest)
	left := len(value) - head
	if err != nil || s.bad || contentType > left || headers > left-contentType-1 {
		return m, fmt.Errorf("message %s: %w", position, errForeign)
	}
	end := head + contentType + headers
	if value[end] != '\n' {
		return m, fmt.Errorf("message %s: %w", position, errForeign)
	}
	text := strings.Clone(value[head:end])
	m.ContentType, m.Body = text[:contentType], []byte(value[end+1:])
	if m.Headers, err = drainmark.ParseHeaders(text[contentType:]); err != nil {
		return m, fmt.Errorf("message %s: %w: %w", position, errForeign, err)
	}
	return m, nil
}

// parseLog reads "<last position> <cleared through> 0", and what follows if there was an erasure or it is deleted:
// "<how many erasures> <1 if it is deleted>". Older versions have kept in the third place how far the log is swept.
func parseLog(name string, text reply) (drainmark.LogInfo, error) {
	s := scanner{rest: text.String()}
	info := drainmark.LogInfo{Name: name, LastPosition: s.unsigned(), ClearedThrough: s.unsigned()}
	if s.word(); s.rest != "" {
		info.Erasures, info.Deleted = s.unsigned(), s.truth()
	}
	if s.bad {
		return info, fmt.Errorf("log %q: %w", name, errForeign)
	}
	return info, nil
}

// formatMark returns what a letter is found by in the sorted sets of marks: "<producer>-<last>-<first>-<id>", with 20
// digits each, or "" for a letter of no known mark.
func formatMark(l *drainmark.DeadLetter) string {
	if l.Span.First == 0 || l.Span.Last < l.Span.First {
		return ""
	}
	return fmt.Sprintf("%s-%020d-%020d-%s", l.Span.Producer, l.Span.Last, l.Span.First, l.ID)
}

// appendHead writes a letter without its payload. Older versions have kept in the eighth place whether it was decoded.
func appendHead(dst []byte, l *drainmark.DeadLetter) []byte {
	return fmt.Appendf(dst, "%d %s %d %d %d %d %s 0 %s %s %s", l.Span.Partition, l.Span.Producer, l.Span.First, l.Span.Last, l.SetAsideAt.UnixMicro(),
		l.Attempts, truthText(l.Discarded), strconv.Quote(l.Log), strconv.Quote(l.Reason), strconv.Quote(l.Principal))
}

// parseHead reads a letter without its payload: the mark that it is found by on a line of its own, and what appendHead
// wrote. store.ErrNotFound from nothing.
func parseHead(id string, text reply) (l drainmark.DeadLetter, undecoded bool, err error) {
	if text.isNil() {
		return l, false, store.ErrNotFound
	}
	_, head, _ := strings.Cut(text.String(), "\n")
	s := scanner{rest: head}
	l.ID = id
	l.Span.Partition = int(s.signed())
	s.hex(l.Span.Producer[:])
	l.Span.First, l.Span.Last = s.unsigned(), s.unsigned()
	l.SetAsideAt, l.Attempts = s.moment(), int(s.signed())
	l.Discarded, undecoded = s.truth(), s.truth()
	l.Log, l.Reason = s.quoted(), s.quoted()
	if s.rest != "" { // older versions have not kept it
		l.Principal = s.quoted()
	}
	if s.bad {
		return drainmark.DeadLetter{}, false, fmt.Errorf("dead letter %q: %w", id, errForeign)
	}
	return l, undecoded, nil
}

// payloadMark begins a letter's payload. Older versions have written records, which begin with a number.
const payloadMark = "p "

// appendPayloadHead writes what stands before a letter's payload.
func appendPayloadHead(dst []byte, l *drainmark.DeadLetter) []byte {
	return fmt.Appendf(dst, payloadMark+"%d\n", l.AcceptedAt.UnixMicro())
}

// parseLetter reads a whole letter.
func parseLetter(id string, head, content reply) (drainmark.DeadLetter, error) {
	l, undecoded, err := parseHead(id, head)
	if err != nil {
		return l, err
	}
	line, rest, _ := strings.Cut(content.String(), "\n")
	line, packed := strings.CutPrefix(line, payloadMark)
	s := scanner{rest: line}
	var r drainmark.Record
	var trace string
	if !packed {
		r.Kind = drainmark.RecordKind(s.unsigned())
	}
	l.AcceptedAt = s.moment()
	if !packed {
		for _, into := range []*string{&r.Log, &r.ContentType, &r.Key, &r.Target, &trace} {
			*into = s.quoted()
		}
	}
	switch {
	case s.bad:
		return drainmark.DeadLetter{}, fmt.Errorf("the payload of dead letter %q: %w", id, errForeign)
	case packed || undecoded:
		l.Payload = []byte(rest)
	case !l.Discarded:
		r.AcceptedAt, r.Body = l.AcceptedAt, []byte(rest)
		r.Headers, _ = drainmark.TraceHeaders(trace) // one that cannot be a header has told nobody anything
		l.Payload = drainmark.EncodeBatch(nil, &drainmark.Batch{
			Partition: l.Span.Partition, Producer: l.Span.Producer, First: l.Span.First, Records: []drainmark.Record{r},
		})
	}
	return l, nil
}
