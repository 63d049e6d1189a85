package client

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Message is a message of a log: one that is to be appended, or one that was read.
type Message struct {
	Body        []byte
	ContentType string // application/octet-stream if it is appended without one
	// Key makes appending the same message again harmless for at least 24 hours, through any backend: 1 to 255
	// characters of printable ASCII, known to its log. "" for none, or for one that the Client makes: see Client.Append. It is not
	// there when the message is read.
	Key string
	// Headers stand beside the body: 16 at most, and 4 KiB of names and values. Names are those of HTTP headers, and
	// read in lower case. Values are UTF-8 without control characters. A message is read with "traceparent" and
	// "tracestate" among them if there were any, and without any it has nil. See docs/http-api.md.
	Headers map[string]string

	// A message that was read also has these. Appending does not look at it.
	Position    uint64    // 1, 2, 3, … in its log
	ID          string    // names it in the deployment
	AcceptedAt  time.Time // in UTC, in microseconds
	PersistedAt time.Time
	Erased      bool // what it held is gone: Body, ContentType and Headers
	// Err is why the Codec could not decode the body, a *DecodeError, and nil if it could. Then Body is nil.
	Err error
}

// appendLine appends a message as a line of a request of many.
func appendLine(dst []byte, m *Message) ([]byte, error) {
	if utf8.Valid(m.Body) {
		dst = appendString(append(dst, `{"body":`...), m.Body)
	} else {
		dst = base64.StdEncoding.AppendEncode(append(dst, `{"body_base64":"`...), m.Body)
		dst = append(dst, '"')
	}
	contentType := m.ContentType
	if contentType == "" {
		contentType = defaultType // also for what is text: as if it came alone
	}
	if !isPrintable(contentType) || !isPrintable(m.Key) {
		return dst, fmt.Errorf("content type %.40q and key %.40q: they must be printable ASCII", contentType, m.Key)
	}
	dst = appendString(append(dst, `,"content_type":`...), contentType)
	if m.Key != "" {
		dst = appendString(append(dst, `,"key":`...), m.Key)
	}
	if len(m.Headers) == 0 {
		return append(dst, '}', '\n'), nil
	}
	dst = append(dst, `,"headers":{`...)
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		value := m.Headers[name]
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return dst, fmt.Errorf("header %.40q: it must be valid UTF-8", name)
		}
		dst = appendString(append(appendString(dst, name), ':'), value)
		dst = append(dst, ',')
	}
	return append(dst[:len(dst)-1], '}', '}', '\n'), nil
}

// fitsHTTP says whether the message's headers can be headers of a request and mean the same.
func (m *Message) fitsHTTP() bool {
	for name, value := range m.Headers {
		if strings.IndexFunc(name, notInToken) >= 0 || !isPrintable(value) {
			return false
		}
	}
	return true
}

// notInToken says whether a character is in no name of an HTTP header.
func notInToken(c rune) bool {
	letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
	return !letter && (c < '0' || c > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", c)
}

// appendString appends valid UTF-8 as a JSON string.
func appendString[T string | []byte](dst []byte, text T) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := range len(text) {
		c := text[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, text[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		default:
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&0xf])
		}
	}
	return append(append(dst, text[start:]...), '"')
}
