package cloudevents

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/drainmark/drainmark"
)

// A message keeps an event's data as its body, datacontenttype as its content type, and each other attribute as a header,
// ce- and its name. The trace context of the distributed tracing extension is that of the message, if the API can keep it
// as it is.
const (
	prefix = "ce-"
	// typesHeader names the attributes that are no strings, as in "count=integer ok=boolean".
	typesHeader = "cloudevents-types"
)

// The types of the events that tell of a message which is none itself, and the path of a log.
const (
	messageType = "io.github.drainmark.message"
	erasedType  = "io.github.drainmark.erased"
	logs        = "/v1/logs/"
)

var typeNames = [...]string{String: "string", Integer: "integer", Boolean: "boolean"}

// Keeps says whether a header of that name, in any case, is one in which a message keeps an event.
func Keeps(name string) bool {
	name = strings.ToLower(name)
	return strings.HasPrefix(name, prefix) || name == typesHeader
}

// HeaderOf returns the name of the header in which a message keeps an attribute.
func HeaderOf(attribute string) string { return prefix + attribute }

// Headers returns the headers in which a message keeps the attributes.
func (e *Event) Headers() []drainmark.Header {
	list := make([]drainmark.Header, 0, len(e.Attributes)+1)
	var types []string
	for i := range e.Attributes {
		a := &e.Attributes[i]
		list = append(list, drainmark.Header{Name: prefix + a.Name, Value: quote(a.Value)})
		if a.Type != String {
			types = append(types, a.Name+"="+typeNames[a.Type])
		}
	}
	if len(types) > 0 {
		slices.Sort(types) // so that the same event has the same headers
		list = append(list, drainmark.Header{Name: typesHeader, Value: strings.Join(types, " ")})
	}
	return list
}

// quote puts a value in quotes that a header cannot have as it is, because space at its ends is dropped, or that would seem
// to be in quotes.
func quote(value string) string {
	if strings.HasPrefix(value, " ") || strings.HasSuffix(value, " ") || strings.HasPrefix(value, `"`) {
		return `"` + value + `"`
	}
	return value
}

// unquote returns the value that a header stands for.
func unquote(value string) (string, bool) {
	if !strings.HasPrefix(value, `"`) {
		return value, true
	}
	if len(value) < 2 || !strings.HasSuffix(value, `"`) {
		return "", false
	}
	return value[1 : len(value)-1], true
}

// SetMessage makes e the event that a message of a log keeps, or if it keeps none, one that tells of it. In both cases
// attributes are added that say where it stands. The data is the message's body.
func (e *Event) SetMessage(log string, m *drainmark.Message) {
	*e = Event{Attributes: e.Attributes[:0], ContentType: m.ContentType, Data: m.Body}
	others, ok := e.setKept(m.Headers)
	if !ok || e.check() != nil {
		others = e.tellOf(log, m)
	}
	e.Attributes = append(e.Attributes,
		Attribute{Name: ReservedPrefix + "position", Value: strconv.FormatUint(m.Position, 10)},
		Attribute{Name: ReservedPrefix + "id", Value: m.Mark.String()},
		Attribute{Name: ReservedPrefix + "accepted", Value: timestamp(m.AcceptedAt)},
		Attribute{Name: ReservedPrefix + "persisted", Value: timestamp(m.PersistedAt)},
	)
	if m.Erased {
		e.Attributes = append(e.Attributes, Attribute{ReservedPrefix + "erased", "true", Boolean})
	}
	if headers, err := drainmark.NewHeaders(others...); err == nil && !headers.IsZero() { // they are of a message: it is nil
		e.Attributes = append(e.Attributes, Attribute{Name: ReservedPrefix + "headers", Value: string(headers.AppendJSON(nil))})
	}
}

// timestamp writes a time as the API does.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

// setKept takes the attributes from a message's headers, and returns its other headers, but for the trace context. It says
// false if they are not as Headers writes them.
func (e *Event) setKept(headers drainmark.Headers) (others []drainmark.Header, ok bool) {
	types := ""
	for name, value := range headers.All() {
		attribute, kept := strings.CutPrefix(name, prefix)
		switch {
		case kept:
			if value, ok = unquote(value); !ok {
				return nil, false
			}
			e.add(Attribute{Name: attribute, Value: value})
		case name == typesHeader:
			types = value
		case !drainmark.IsTrace(name):
			others = append(others, drainmark.Header{Name: name, Value: value})
		}
	}
	for one := range strings.FieldsSeq(types) {
		name, kind, _ := strings.Cut(one, "=")
		e.setType(name, kind)
	}
	if !e.has(drainmark.TraceParent) && !e.has(drainmark.TraceState) {
		e.addTrace(headers)
	}
	return others, true
}

// setType gives an attribute its type, if its value is of that type.
func (e *Event) setType(name, kind string) {
	for i := range e.Attributes {
		a := &e.Attributes[i]
		switch {
		case a.Name != name || isCore(name):
		case kind == typeNames[Integer] && isInteger(a.Value):
			a.Type = Integer
		case kind == typeNames[Boolean] && isBoolean(a.Value):
			a.Type = Boolean
		}
	}
}

// addTrace adds the message's trace context as the distributed tracing extension.
func (e *Event) addTrace(headers drainmark.Headers) {
	for _, name := range [...]string{drainmark.TraceParent, drainmark.TraceState} {
		if value, ok := headers.Get(name); ok {
			e.add(Attribute{Name: name, Value: value})
		}
	}
}

// tellOf makes e an event that tells of a message, and returns the message's headers, but for the trace context.
func (e *Event) tellOf(log string, m *drainmark.Message) (others []drainmark.Header) {
	kind := messageType
	if m.Erased {
		kind = erasedType
	}
	e.Attributes = append(e.Attributes[:0],
		Attribute{Name: SpecVersion, Value: Version}, Attribute{Name: attrID, Value: m.Mark.String()},
		Attribute{Name: attrSource, Value: logs + log}, Attribute{Name: attrType, Value: kind},
		Attribute{Name: attrTime, Value: timestamp(m.AcceptedAt)},
	)
	e.addTrace(m.Headers)
	if e.ContentType != "" && checkContentType(e.ContentType) != nil {
		e.ContentType = ""
	}
	for name, value := range m.Headers.WithoutTrace().All() {
		others = append(others, drainmark.Header{Name: name, Value: value})
	}
	return others
}

// Form is how the JSON format has an event's data.
type Form uint8

// The forms.
const (
	InBase64 Form = iota // "data_base64"
	InJSON               // "data", the value itself
	InString             // "data", a string
)

// Form returns how the data is written: as what the content type declares, or in base64 if it is not that. The bytes alone do
// not decide, so that readers get the same form for the same type.
func (e *Event) Form() Form {
	switch {
	case !utf8.Valid(e.Data):
	case IsJSON(e.ContentType) && json.Valid(e.Data):
		return InJSON
	case !IsJSON(e.ContentType) && isText(e.ContentType) && bytes.IndexByte(e.Data, 0) < 0:
		return InString
	}
	return InBase64
}
