package cloudevents

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"unicode/utf8"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/internal/jsonstring"
)

// maxMembers is how many members an event may have as JSON. A message keeps 16 attributes of them. The others are data, the
// trace context, and what is not kept: nulls, and attributes of a page that is posted again.
const maxMembers = 64

// Parse returns the event of a request in structured mode. It may change text, which the event's data shares.
// KindInvalid, KindTooLarge.
func Parse(text []byte) (*Event, error) {
	rest, err := begin(text)
	if err != nil {
		return nil, err
	}
	e := &Event{}
	_, err = e.parse(rest)
	return e, err
}

// ParseBatch hands on the events of a request in batched mode, of which there are at most most. It may change text, which
// their data shares. An error of an event, or of take, says which event it is of. KindInvalid, KindTooLarge.
func ParseBatch(text []byte, most int, take func(*Event) error) error {
	rest, err := begin(text)
	if err != nil {
		return err
	}
	if rest[0] != '[' {
		return invalid("a batch is a JSON array of events")
	}
	rest = skipSpace(rest[1:])
	for n := 1; rest[0] != ']'; n++ {
		if n > most {
			return drainmark.Errorf(drainmark.KindTooLarge, "the request has more than %d events, the limit", most)
		}
		e := &Event{}
		if rest, err = e.parse(rest); err == nil {
			err = take(e)
		}
		if err != nil {
			return drainmark.Errorf(drainmark.KindOf(err), "event %d: %w", n, err)
		}
		if rest[0] == ',' {
			rest = skipSpace(rest[1:])
		}
	}
	return nil
}

// begin returns the value of a JSON document, which is then known to be valid: what reads it need not look whether anything
// ends too early.
func begin(text []byte) ([]byte, error) {
	if !utf8.Valid(text) {
		return nil, invalid("the body is not valid UTF-8")
	}
	if !json.Valid(text) {
		return nil, invalid("invalid JSON: %w", json.Unmarshal(text, new(any)))
	}
	return skipSpace(text), nil
}

// data is what an event has as data and data_base64: nil for what it has not.
type data struct{ json, base64 []byte }

// parse reads the object of an event, and returns what follows it and the white space behind it.
func (e *Event) parse(text []byte) (rest []byte, err error) {
	if text[0] != '{' {
		return nil, invalid("an event is a JSON object")
	}
	var d data
	names := map[string]bool{}
	rest = skipSpace(text[1:])
	for rest[0] != '}' {
		var name string
		if name, rest, err = cutString(rest); err != nil {
			return nil, err
		}
		switch {
		case names[name]:
			return nil, invalid("it has %.40q twice", name)
		case len(names) == maxMembers:
			return nil, drainmark.Errorf(drainmark.KindTooLarge, "the event has more than %d members, the limit", maxMembers)
		}
		names[name] = true
		value, after := cutValue(skipSpace(skipSpace(rest)[1:])) // behind the colon
		if err := e.member(name, value, &d); err != nil {
			return nil, err
		}
		if rest = skipSpace(after); rest[0] == ',' {
			rest = skipSpace(rest[1:])
		}
	}
	if err := e.setData(d); err != nil {
		return nil, err
	}
	return skipSpace(rest[1:]), e.check()
}

// member takes a member of the event's object.
func (e *Event) member(name string, value []byte, d *data) error {
	isNull := string(value) == "null"
	switch {
	case name == "data":
		d.json = value
		return nil
	case isNull: // is as good as none
		return nil
	case name == "data_base64":
		d.base64 = value
		return nil
	}
	a := Attribute{Name: name}
	switch c := value[0]; {
	case c == '"':
		text, _, err := cutString(value)
		if err != nil {
			return invalid("%.40q: %w", name, err)
		}
		a.Value = text
	case c == 't' || c == 'f':
		a.Value, a.Type = string(value), Boolean
	case c == '{' || c == '[':
		return invalid("%.40q: an attribute is a string, an integer or a boolean", name)
	case !isInteger(string(value)):
		return invalid("%.40q is %.40s: a number must be an integer of 32 bits", name, value)
	default:
		a.Value, a.Type = string(value), Integer
	}
	if a.Type != String && isCore(name) {
		return invalid("%q must be a string", name)
	}
	if name == attrContentType {
		e.ContentType = a.Value
		return checkContentType(a.Value)
	}
	e.add(a)
	return nil
}

// isCore says whether the specification defines the attribute: all of those are strings in JSON.
func isCore(name string) bool {
	switch name {
	case attrID, attrSource, SpecVersion, attrType, attrSubject, attrTime, attrSchema, attrContentType:
		return true
	}
	return false
}

// setData takes the data of an event whose content type is known. Data without a content type is JSON, unless it is in
// base64.
func (e *Event) setData(d data) error {
	null := string(d.json) == "null"
	switch {
	case d.base64 != nil && d.json != nil && !null:
		return invalid("it has both data and data_base64")
	case d.base64 != nil:
		return e.setBase64(d.base64)
	case d.json == nil:
		return nil
	case e.ContentType == "":
		e.ContentType, e.Data = "application/json", d.json
	case IsJSON(e.ContentType):
		e.Data = d.json
	case null:
	case d.json[0] != '"':
		return invalid("data must be a string, because %.60q is not JSON", e.ContentType)
	default:
		return e.setText(d.json)
	}
	return nil
}

func (e *Event) setBase64(value []byte) error {
	text, _, err := cutText(value)
	if err != nil {
		return invalid("data_base64: %w", err)
	}
	if i := bytes.IndexAny(text, "\r\n"); i >= 0 { // the decoder would skip them
		return invalid("data_base64: character %d is none of base64", i+1)
	}
	if e.Data, err = base64.StdEncoding.Strict().AppendDecode(nil, text); err != nil {
		return invalid("data_base64: %w", err)
	}
	return nil
}

// setText takes a string as data, in UTF-8.
func (e *Event) setText(value []byte) error {
	switch charset := charsetOf(e.ContentType); charset {
	case "", "utf-8", "us-ascii":
	default:
		return invalid("data is a string, and its charset is to be %.40q: send data_base64", charset)
	}
	text, _, err := cutText(value)
	if err != nil {
		return invalid("data: %w", err)
	}
	e.Data = text[:len(text):len(text)]
	return nil
}

// cutString returns the string that valid JSON begins with, and what follows.
func cutString(text []byte) (string, []byte, error) {
	value, rest, err := cutText(text)
	return string(value), rest, err
}

// cutText returns the string that valid JSON begins with, in its own place, and what follows.
func cutText(text []byte) (value, rest []byte, err error) {
	value, rest, escaped, ok := jsonstring.Scan(text)
	if !ok {
		return nil, nil, invalid("half of a surrogate pair is not a character")
	}
	if escaped {
		value = jsonstring.Unescape(value)
	}
	return value, rest, nil
}

// cutValue returns the value that valid JSON begins with, and what follows.
func cutValue(text []byte) (value, rest []byte) {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			if quoted = !quoted; !quoted && depth == 0 {
				return text[: i+1 : i+1], text[i+1:]
			}
		case quoted:
		case c == '{' || c == '[':
			depth++
		case depth > 0 && (c == '}' || c == ']'):
			if depth--; depth == 0 {
				return text[: i+1 : i+1], text[i+1:]
			}
		case depth == 0 && (c == ',' || c == '}' || c == ']' || isSpace(c)):
			return text[:i:i], text[i:]
		}
	}
	return text, nil
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func skipSpace(text []byte) []byte {
	for len(text) > 0 && isSpace(text[0]) {
		text = text[1:]
	}
	return text
}
