package command

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/drainmark/drainmark/client"
)

// content is a body as the API shows it.
type content struct {
	Body       *string `json:"body,omitempty"`
	BodyBase64 []byte  `json:"body_base64,omitempty"` // in place of Body, if that is not text
}

func contentOf(body []byte) content {
	if isText(body) {
		text := string(body)
		return content{Body: &text}
	}
	return content{BodyBase64: body}
}

func isText(body []byte) bool { return utf8.Valid(body) && !strings.Contains(string(body), "\x00") }

// shownMessage is a message as the API shows it.
type shownMessage struct {
	Position uint64 `json:"position"`
	ID       string `json:"id"`
	content
	ContentType string            `json:"content_type"`
	Headers     map[string]string `json:"headers,omitempty"`
	AcceptedAt  moment            `json:"accepted_at"`
	PersistedAt moment            `json:"persisted_at"`
	Erased      bool              `json:"erased,omitempty"`
}

// moment is a time as the API shows it: with all microseconds, so that texts of times are ordered as the times are.
type moment time.Time

// MarshalText implements encoding.TextMarshaler.
func (m moment) MarshalText() ([]byte, error) {
	return time.Time(m).UTC().AppendFormat(nil, "2006-01-02T15:04:05.000000Z07:00"), nil
}

// messagePrinter prints the messages of a log, in order.
type messagePrinter struct {
	*printer
	separator string
	last      uint64 // the position behind which the next message is expected
	note      func(format string, args ...any)
}

// separators are what --separator puts behind a body.
var separators = map[string]string{"newline": "\n", "nul": "\x00", "none": ""}

// Separated is how bodies are told apart that are printed as they are.
type Separated struct {
	Separator string `env:"-" help:"What plain output has behind each body: newline, nul, or none." enum:"newline,nul,none" default:"newline"`
}

// message prints a message, and before it that those before it are gone, if they are.
func (p *messagePrinter) message(m client.Message) {
	if m.Position > p.last+1 {
		p.gone(m.Position - 1)
	}
	p.last = m.Position
	switch p.format {
	case asJSON:
		p.json(shownMessage{m.Position, m.ID, contentOf(m.Body), m.ContentType, m.Headers, moment(m.AcceptedAt), moment(m.PersistedAt), m.Erased})
	case asPlain:
		p.text(string(m.Body) + p.separator)
	default:
		p.tell(fmt.Sprintf("%8d  %s  ", m.Position, clock(m.PersistedAt)), previewOf(m))
	}
}

// gone prints that the messages up to a position have been cleared.
func (p *messagePrinter) gone(through uint64) {
	switch p.format {
	case asJSON:
		p.json(struct {
			Through uint64 `json:"cleared_through"`
		}{through})
	case asPlain:
		p.note("messages up to position %d have been cleared", through)
	default:
		p.tell(fmt.Sprintf("%8s  ", ""), fmt.Sprintf("--- cleared up to position %d ---", through))
	}
}

// tell prints a line for people, as long as the terminal is wide.
func (p *messagePrinter) tell(head, text string) {
	if p.width > 0 {
		text = cut(text, max(p.width-utf8.RuneCountInString(head), 10))
	}
	p.text(head + text + "\n")
}

// previewOf is what a message holds, in one line for people.
func previewOf(m client.Message) string {
	switch {
	case m.Erased:
		return "(erased)"
	case !isText(m.Body):
		return fmt.Sprintf("(%d bytes of %s)", len(m.Body), cmp.Or(visible(m.ContentType), "no type"))
	}
	return visible(strings.TrimSuffix(string(m.Body), "\n"))
}
