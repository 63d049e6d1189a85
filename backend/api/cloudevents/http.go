package cloudevents

import (
	"encoding/hex"
	"net/http"
	"strings"
)

// headerPrefix begins the headers of a request that are attributes, as net/http writes them.
const headerPrefix = "Ce-"

// InHeaders says whether a request has headers of the binary mode.
func InHeaders(header http.Header) bool {
	for name := range header {
		if strings.HasPrefix(name, headerPrefix) {
			return true
		}
	}
	return false
}

// FromHeaders returns the event of a request in binary mode, without its data. KindInvalid.
func FromHeaders(header http.Header) (*Event, error) {
	e := &Event{Attributes: make([]Attribute, 0, len(header))}
	for name, values := range header {
		attribute, ok := strings.CutPrefix(name, headerPrefix)
		if !ok {
			continue
		}
		if len(values) > 1 {
			return nil, invalid("%d %.60s headers: there can be one", len(values), name)
		}
		value, err := decodeValue(values[0])
		if err != nil {
			return nil, invalid("%.60s: %w", name, err)
		}
		e.add(Attribute{Name: strings.ToLower(attribute), Value: value})
	}
	if types := header["Content-Type"]; len(types) > 0 {
		e.ContentType = strings.TrimSpace(types[0])
		if err := checkContentType(e.ContentType); err != nil {
			return nil, err
		}
	}
	return e, e.check()
}

// add adds an attribute, unless it is one that is reserved.
func (e *Event) add(a Attribute) {
	if !strings.HasPrefix(a.Name, ReservedPrefix) {
		e.Attributes = append(e.Attributes, a)
	}
}

// decodeValue returns the text of a header: without quotes, if it is in quotes, and percent-decoded once. Characters beyond
// ASCII should come as escapes. They are taken as they are too, because there are SDKs that send them so.
func decodeValue(value string) (string, error) {
	if strings.HasPrefix(value, `"`) {
		var ok bool
		if value, ok = unquoted(value); !ok {
			return "", invalid("a value that begins with a quote must be a quoted string")
		}
	}
	if !strings.Contains(value, "%") {
		return value, nil
	}
	decoded := make([]byte, 0, len(value))
	for i := 0; i < len(value); i++ {
		if value[i] != '%' {
			decoded = append(decoded, value[i])
			continue
		}
		escape := value[i+1 : min(i+3, len(value))]
		var err error
		if decoded, err = hex.AppendDecode(decoded, []byte(escape)); err != nil || len(escape) != 2 {
			return "", invalid("character %d begins no escape: a percent sign itself is sent as %%25", i+1)
		}
		i += 2
	}
	return string(decoded), nil
}

// unquoted returns what is in a quoted string of HTTP (RFC 7230).
func unquoted(value string) (string, bool) {
	var text strings.Builder
	for i := 1; i < len(value); i++ {
		switch c := value[i]; {
		case c == '"':
			return text.String(), i == len(value)-1
		case c == '\\' && i+1 < len(value):
			i++
			text.WriteByte(value[i])
		default:
			text.WriteByte(c)
		}
	}
	return "", false
}
