package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/internal/jsonstring"
)

// textType is the content type of a message whose line has "body" and names none.
const textType = "text/plain; charset=utf-8"

// byteOrderMark is what some programs write before UTF-8.
var byteOrderMark = []byte("\xef\xbb\xbf")

// many decodes a request of many messages: one JSON object a line. Memory is taken for the request, not for a line:
// bodies lie in the request's own, keys in one string.
type many struct {
	record  drainmark.Record   // what all records have in common
	trace   []drainmark.Header // that of the request, which the record has too
	key     string             // the request's idempotency key, or ""
	message int                // limit: bytes of a message
	lines   int                // limit: messages
	careful bool               // leave the short cut out

	records []drainmark.Record
	decoded []byte // bodies that came as base64
	keys    []byte // the records' keys, one behind the other
	ends    []int  // where in keys each one ends
}

// DecodeLines returns the records that a request of many messages to a log makes, with the service's usual limits. It may
// change data, which the records then share. The error says in which line the fault is.
func DecodeLines(log string, data []byte) ([]drainmark.Record, error) {
	l, err := Limits{}.withDefaults()
	if err != nil {
		return nil, err
	}
	m := many{message: l.Message, lines: l.Lines, record: drainmark.Record{Kind: drainmark.Append, Log: log}}
	return m.decode(data)
}

// decode returns the records of all lines, or the first fault, with the number of its line. It changes data, which
// the records then share.
func (m *many) decode(data []byte) ([]drainmark.Record, error) {
	capacity := min(bytes.Count(data, []byte{'\n'})+1, m.lines)
	m.records = make([]drainmark.Record, 0, capacity)
	m.ends = make([]int, 0, capacity)
	m.decoded = nil
	data = bytes.TrimPrefix(data, byteOrderMark)
	var line []byte
	for number := 1; len(data) > 0; number++ {
		if line, data = cutLine(data); len(line) == 0 {
			continue
		}
		if err := m.add(line, len(data)); err != nil {
			return nil, drainmark.Errorf(drainmark.KindOf(err), "line %d: %w", number, err)
		}
	}
	if len(m.records) == 0 {
		return nil, invalid("the request has no messages")
	}
	m.setKeys()
	return m.records, nil
}

// cutLine returns the first line, without the white space around it, and what follows.
func cutLine(data []byte) (line, rest []byte) {
	line = data
	if end := bytes.IndexByte(data, '\n'); end >= 0 {
		line, rest = data[:end], data[end+1:]
	}
	for len(line) > 0 && isSpace(line[0]) {
		line = line[1:]
	}
	for len(line) > 0 && isSpace(line[len(line)-1]) {
		line = line[:len(line)-1]
	}
	return line, rest
}

// isSpace says whether c is white space to JSON. A newline is not: it ends a line.
func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' }

// add makes a record of a line that is not blank, with so many bytes behind it.
func (m *many) add(line []byte, behind int) error {
	if len(m.records) == m.lines {
		return tooLarge("the request has more than %d messages, the limit", m.lines)
	}
	var f fields
	if m.careful || !f.scan(line) {
		f = fields{}
		if err := f.parse(line); err != nil {
			return err
		}
	}
	body, contentType, err := m.content(&f, len(line)+behind)
	if err != nil {
		return err
	}
	if len(body) > m.message {
		return tooLarge("a message of %d bytes; the limit is %d", len(body), m.message)
	}
	if err := m.addKey(&f[fieldKey]); err != nil {
		return err
	}
	headers := m.record.Headers
	if f[fieldHeaders].set {
		if headers, err = headersOf(parseHeaders(f[fieldHeaders].value), m.trace); err != nil {
			return err
		}
	}
	m.records = append(m.records, m.record)
	r := &m.records[len(m.records)-1]
	r.Body, r.ContentType, r.Headers = body[:len(body):len(body)], contentType, headers
	return nil
}

// parseHeaders returns the members of an object of strings, as scanObject has found it.
func parseHeaders(object []byte) (list []drainmark.Header) {
	scanObject(object, func(name, value []byte) {
		list = append(list, drainmark.Header{Name: string(name), Value: string(value)})
	})
	return list
}

// content returns a line's body and its type. No more than left bytes of the request are unread.
func (m *many) content(f *fields, left int) (body []byte, contentType string, err error) {
	switch {
	case f[fieldBody].set && f[fieldBase64].set:
		return nil, "", invalid(`it has both "body" and "body_base64"`)
	case f[fieldBody].set:
		body, contentType = f[fieldBody].value, textType
	case f[fieldBase64].set:
		contentType = drainmark.DefaultContentType
		if body, err = m.base64(f[fieldBase64].value, left); err != nil {
			return nil, "", err
		}
	default:
		return nil, "", invalid(`it has neither "body" nor "body_base64"`)
	}
	named := &f[fieldType]
	if !named.set {
		return body, contentType, nil
	}
	if err := checkText(`"content_type"`, named.value, maxContentType); err != nil {
		return nil, "", err
	}
	if n := len(m.records); n > 0 && m.records[n-1].ContentType == string(named.value) {
		return body, m.records[n-1].ContentType, nil // nearly always: one string for all
	}
	return body, string(named.value), nil
}

// base64 decodes a body behind those that it has decoded before.
func (m *many) base64(text []byte, left int) ([]byte, error) {
	if m.decoded == nil {
		m.decoded = make([]byte, 0, base64.StdEncoding.DecodedLen(left))
	}
	start := len(m.decoded)
	decoded, err := base64.StdEncoding.Strict().AppendDecode(m.decoded, text)
	if err == nil && bytes.ContainsAny(text, "\r\n") {
		err = base64.CorruptInputError(bytes.IndexAny(text, "\r\n")) // the decoder would skip them
	}
	if err != nil {
		return nil, invalid(`"body_base64": %w`, err)
	}
	m.decoded = decoded
	return decoded[start:], nil
}

// addKey notes the key of the next record: its line's own, or one made of the request's and its number.
func (m *many) addKey(own *text) error {
	switch {
	case own.set:
		if err := checkText(`"key"`, own.value, maxKey); err != nil {
			return err
		}
		m.keys = append(m.keys, own.value...)
	case m.key != "":
		m.keys = append(append(m.keys, m.key...), '/')
		m.keys = strconv.AppendInt(m.keys, int64(len(m.records))+1, 10)
	}
	m.ends = append(m.ends, len(m.keys))
	return nil
}

func (m *many) setKeys() {
	all, start := string(m.keys), 0
	for i, end := range m.ends {
		m.records[i].Key = all[start:end]
		start = end
	}
}

// The fields of a line.
const (
	fieldBody = iota
	fieldBase64
	fieldType
	fieldKey
	fieldHeaders
	numFields
)

var fieldNames = [numFields]string{"body", "body_base64", "content_type", "key", "headers"}

// fields is what a line has.
type fields [numFields]text

// text is the value of a field: a string without its quotes and escapes, or the object of strings that headers are, as
// it stands in the line.
type text struct {
	value []byte
	set   bool
}

// parse reads any line, with encoding/json, and says what is wrong with one that cannot be taken. It is stricter than
// encoding/json, which lets pass, or mends, what would not be exactly what was sent: fields given twice or in other
// letters, invalid UTF-8, and halves of surrogate pairs.
func (f *fields) parse(line []byte) error {
	if !utf8.Valid(line) {
		return invalid("it is not valid UTF-8")
	}
	var whole json.RawMessage
	if err := json.Unmarshal(line, &whole); err != nil {
		return invalid("invalid JSON: %w", err)
	}
	if line[0] != '{' {
		return invalid("it is not a JSON object")
	}
	d := json.NewDecoder(bytes.NewReader(line))
	_, err := d.Token()
	for err == nil && d.More() {
		err = f.parseField(d, line)
	}
	return err
}

func (f *fields) parseField(d *json.Decoder, line []byte) error {
	name, err := d.Token()
	if err != nil {
		return invalid("invalid JSON: %w", err)
	}
	i := slices.Index(fieldNames[:], name.(string))
	if i < 0 {
		return invalid("unknown field %.40q", name)
	}
	if f[i].set {
		return invalid("it has %q twice", name)
	}
	before := d.InputOffset()
	if i == fieldHeaders {
		return f.parseHeaders(d)
	}
	value, err := d.Token()
	if err != nil {
		return invalid("invalid JSON: %w", err)
	}
	s, ok := value.(string)
	if !ok {
		return invalid("%q must be a string", name)
	}
	if jsonstring.HalfPair(line[before:d.InputOffset()]) {
		return invalid("%q has half of a surrogate pair, which is not a character", name)
	}
	f[i] = text{[]byte(s), true}
	return nil
}

func (f *fields) parseHeaders(d *json.Decoder) error {
	var object json.RawMessage
	if err := d.Decode(&object); err != nil {
		return invalid("invalid JSON: %w", err)
	}
	if rest, ok := scanObject(object, nil); !ok || len(rest) > 0 {
		if jsonstring.HalfPair(object) {
			return invalid(`"headers" has half of a surrogate pair, which is not a character`)
		}
		return invalid(`"headers" must be an object of strings`)
	}
	f[fieldHeaders] = text{object, true}
	return nil
}
