package drainmark

import (
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The limits of a message's headers. The trace context does not count, and has a limit of its own.
const (
	MaxHeaders     = 16      // how many there are
	MaxHeaderBytes = 4 << 10 // the bytes of all names and values
	MaxTraceBytes  = 1 << 10 // the bytes of TraceParent and TraceState, with their values
	maxHeaderBlock = MaxHeaderBytes + MaxTraceBytes + 2*(MaxHeaders+2)
)

// TraceParent and TraceState are the headers of the W3C trace context. They say which request a record came with, so
// they differ between two attempts to append one message: they are no part of what an idempotency key stands for.
const (
	TraceParent = "traceparent"
	TraceState  = "tracestate"
)

// Header is one of a message's headers.
type Header struct{ Name, Value string }

// Headers are the headers of a message: each name once, in lower case, in the order of the names. They never change,
// and those with the same names and values are equal (==). The zero value has none.
//
// A name is a token of HTTP (RFC 9110). A value is UTF-8 without control characters, and without space at its ends. It
// may be empty.
type Headers struct {
	block string // "name:value\n" for each: no name has a colon, and no value a control character
}

// NewHeaders makes headers of a list in any order. Names are taken in any case, and the spaces and tabs around a value
// are dropped. It fails with KindInvalid if the list cannot be headers, and with KindTooLarge if it is over a limit.
func NewHeaders(list ...Header) (Headers, error) {
	if len(list) == 0 {
		return Headers{}, nil
	}
	list = slices.Clone(list)
	size := 0
	for i := range list {
		list[i].Value = strings.Trim(list[i].Value, " \t")
		if err := list[i].check(); err != nil {
			return Headers{}, err
		}
		list[i].Name = strings.ToLower(list[i].Name)
		size += len(list[i].Name) + len(list[i].Value) + 2
	}
	slices.SortFunc(list, func(a, b Header) int { return strings.Compare(a.Name, b.Name) })
	var block strings.Builder
	block.Grow(size)
	for _, h := range list {
		block.WriteString(h.Name)
		block.WriteByte(':')
		block.WriteString(h.Value)
		block.WriteByte('\n')
	}
	return checked(block.String())
}

// check says why the header cannot be one of a message, if it cannot.
func (h *Header) check() error {
	if h.Name == "" {
		return Errorf(KindInvalid, "a header without a name")
	}
	for i := range len(h.Name) {
		if nameChars[h.Name[i]] == 0 {
			return Errorf(KindInvalid, "header %.40q: a name has letters, digits and %s", h.Name, otherChars)
		}
	}
	if plainASCII(h.Value) { // nearly always
		return nil
	}
	if !utf8.ValidString(h.Value) {
		return Errorf(KindInvalid, "header %.40q: its value is not valid UTF-8", h.Name)
	}
	if i := strings.IndexFunc(h.Value, unicode.IsControl); i >= 0 {
		return Errorf(KindInvalid, "header %.40q: its value has a control character (at byte %d)", h.Name, i+1)
	}
	return nil
}

// The characters of names, besides letters and digits.
const otherChars = "!#$%&'*+-.^_`|~"

// nameChars is 1 for a character of names, and 2 for one that is not in lower case. It is 0 for all others.
var nameChars = func() (chars [256]uint8) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyz0123456789" + otherChars) {
		chars[c] = 1
	}
	for c := byte('A'); c <= 'Z'; c++ {
		chars[c] = 2
	}
	return chars
}()

// plainASCII says whether a text is of ASCII without control characters.
func plainASCII(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

// checked makes headers of a block of good ones, unless it breaks what they must keep together: the order, and the
// limits.
func checked(block string) (Headers, error) {
	h := Headers{block}
	count, size, trace, before := 0, 0, 0, ""
	for name, value := range h.All() {
		switch {
		case name == before:
			return Headers{}, Errorf(KindInvalid, "header %.40q is there twice", name)
		case name < before:
			return Headers{}, Errorf(KindInvalid, "header %.40q is out of order", name)
		}
		before = name
		if IsTrace(name) {
			trace += len(name) + len(value)
			continue
		}
		count++
		size += len(name) + len(value)
	}
	switch {
	case count > MaxHeaders:
		return Headers{}, Errorf(KindTooLarge, "a message with %d headers; the limit is %d", count, MaxHeaders)
	case size > MaxHeaderBytes:
		return Headers{}, Errorf(KindTooLarge, "a message with headers of %d bytes (names and values); the limit is %d",
			size, MaxHeaderBytes)
	case trace > MaxTraceBytes:
		return Headers{}, Errorf(KindTooLarge, "a message with a trace context of %d bytes; the limit is %d",
			trace, MaxTraceBytes)
	}
	return h, nil
}

// spaced says whether a value has space at its ends, of which a tab is a control character.
func spaced(value string) bool {
	return value != "" && (value[0] == ' ' || value[len(value)-1] == ' ')
}

// TraceHeaders makes headers of a traceparent alone, and none of "".
func TraceHeaders(parent string) (Headers, error) {
	if parent == "" {
		return Headers{}, nil
	}
	return NewHeaders(Header{TraceParent, parent})
}

// WithoutTrace returns the headers besides the trace context.
func (h Headers) WithoutTrace() Headers {
	rest := h.block
	for _, name := range [...]string{TraceParent, TraceState} {
		at := strings.Index("\n"+rest, "\n"+name+":")
		if at < 0 {
			continue
		}
		_, after, _ := strings.Cut(rest[at:], "\n")
		rest = rest[:at] + after
	}
	return Headers{rest}
}

// IsTrace says whether the header of that name is one of the trace context.
func IsTrace(name string) bool { return name == TraceParent || name == TraceState }

// ParseHeaders reads what String returns. Any other text gives an error of KindInvalid, or of KindTooLarge.
func ParseHeaders(text string) (Headers, error) {
	for rest := text; rest != ""; {
		line, after, ended := strings.Cut(rest, "\n")
		name, value, named := strings.Cut(line, ":")
		if !ended || !named || spaced(value) {
			return Headers{}, Errorf(KindInvalid, "a line of headers is not as name:value: %.40q", line)
		}
		one := Header{name, value}
		if err := one.check(); err != nil {
			return Headers{}, err
		}
		for i := range len(name) {
			if nameChars[name[i]] != 1 {
				return Headers{}, Errorf(KindInvalid, "header %.40q is not in lower case", name)
			}
		}
		rest = after
	}
	return checked(text)
}

// All yields the names and values, in the order of the names.
func (h Headers) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for rest := h.block; rest != ""; {
			line, after, _ := strings.Cut(rest, "\n")
			name, value, _ := strings.Cut(line, ":")
			if !yield(name, value) {
				return
			}
			rest = after
		}
	}
}

// Get returns the value of a header, whose name is in lower case, and whether there is one.
func (h Headers) Get(name string) (value string, ok bool) {
	for have, value := range h.All() {
		if have == name {
			return value, true
		}
	}
	return "", false
}

// IsZero says whether there are none.
func (h Headers) IsZero() bool { return h.block == "" }

// Size returns how many bytes they take: those of the names and values, and two for each.
func (h Headers) Size() int { return len(h.block) }

// String returns a line for each, as in name:value.
func (h Headers) String() string { return h.block }

// AppendJSON appends them as a JSON object of strings, in the order of the names.
func (h Headers) AppendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	for name, value := range h.All() {
		if dst[len(dst)-1] != '{' {
			dst = append(dst, ',')
		}
		dst = appendQuoted(append(appendQuoted(dst, name), ':'), value)
	}
	return append(dst, '}')
}

// appendQuoted appends a JSON string of a text that has no control characters.
func appendQuoted(dst []byte, text string) []byte {
	dst = append(dst, '"')
	for i := range len(text) {
		if c := text[i]; c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, text[i])
	}
	return append(dst, '"')
}

// MarshalJSON implements json.Marshaler, as AppendJSON.
func (h Headers) MarshalJSON() ([]byte, error) { return h.AppendJSON(nil), nil }

// UnmarshalJSON implements json.Unmarshaler. It fails as NewHeaders does, and for anything but an object of strings.
func (h *Headers) UnmarshalJSON(data []byte) error {
	list, ok := scanObject(string(data), make([]Header, 0, MaxHeaders+2))
	if !ok {
		var values map[string]string
		if err := json.Unmarshal(data, &values); err != nil {
			return fmt.Errorf("headers: %w", err)
		}
		list = list[:0]
		for name, value := range values {
			list = append(list, Header{name, value})
		}
	}
	made, err := NewHeaders(list...)
	if err == nil {
		*h = made
	}
	return err
}

// scanObject is the short cut for objects of strings without escapes, as databases mostly show headers. It appends
// their members to list. It says false of anything else, right or wrong, and encoding/json takes over.
func scanObject(rest string, list []Header) ([]Header, bool) {
	rest, ok := strings.CutPrefix(rest, "{")
	for ok {
		var h Header
		if h.Name, rest, ok = scanString(rest); !ok {
			break
		}
		if rest, ok = strings.CutPrefix(strings.TrimLeft(rest, " "), ":"); !ok {
			break
		}
		if h.Value, rest, ok = scanString(rest); !ok {
			break
		}
		list = append(list, h)
		if rest = strings.TrimLeft(rest, " "); rest == "}" {
			return list, true
		}
		rest, ok = strings.CutPrefix(rest, ",")
	}
	return list, false
}

// scanString reads a string without escapes, and what follows.
func scanString(s string) (value, rest string, ok bool) {
	if s = strings.TrimLeft(s, " "); s == "" || s[0] != '"' {
		return "", "", false
	}
	s = s[1:]
	end := strings.IndexAny(s, `"\`)
	if end < 0 || s[end] == '\\' {
		return "", "", false
	}
	return s[:end], s[end+1:], true
}
