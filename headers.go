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

// Headers are the headers of a message: each name once, in lower case, in the order of the names. They never change, and
// those with the same names and values are equal (==). The zero value has none.
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
	if h.Name == "" || strings.IndexFunc(h.Name, notInName) >= 0 {
		return Errorf(KindInvalid, "header %.40q: a name has letters, digits and !#$%%&'*+-.^_`|~", h.Name)
	}
	if !utf8.ValidString(h.Value) {
		return Errorf(KindInvalid, "header %.40q: its value is not valid UTF-8", h.Name)
	}
	if i := strings.IndexFunc(h.Value, unicode.IsControl); i >= 0 {
		return Errorf(KindInvalid, "header %.40q: its value has a control character (at byte %d)", h.Name, i+1)
	}
	return nil
}

// notInName says whether a character is in no header's name.
func notInName(c rune) bool {
	letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
	return !letter && (c < '0' || c > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", c)
}

// checked makes headers of a block of good ones, unless it breaks what they must keep together: the order, and the limits.
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
		return Headers{}, Errorf(KindTooLarge, "a message with a trace context of %d bytes; the limit is %d", trace, MaxTraceBytes)
	}
	return h, nil
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
		if !ended || !named || name != strings.ToLower(name) || value != strings.Trim(value, " \t") {
			return Headers{}, Errorf(KindInvalid, "a line of headers is not as name:value: %.40q", line)
		}
		one := Header{name, value}
		if err := one.check(); err != nil {
			return Headers{}, err
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
	var values map[string]string
	if err := json.Unmarshal(data, &values); err != nil {
		return fmt.Errorf("headers: %w", err)
	}
	list := make([]Header, 0, len(values))
	for name, value := range values {
		list = append(list, Header{name, value})
	}
	made, err := NewHeaders(list...)
	if err == nil {
		*h = made
	}
	return err
}
