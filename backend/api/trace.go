package api

import (
	"slices"
	"strings"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/internal/tracing"
)

// headerPrefix begins the request headers that are headers of the message.
const headerPrefix = "Drainmark-Header-"

// trace returns the W3C trace context of the request. One that is malformed is as good as none, and so is one that a
// frontend has made up to say that the request is not sampled.
func (r *request) trace() []drainmark.Header {
	if states := r.Header["Tracestate"]; len(states) == 1 && states[0] == tracing.NotKept {
		return nil
	}
	return traceContext(r.Header["Traceparent"], r.Header["Tracestate"])
}

// traceContext makes headers of the values of the trace context's two. A tracestate without a traceparent says nothing.
func traceContext(parents, states []string) []drainmark.Header {
	parent := traceParent(parents)
	if parent == "" {
		return nil
	}
	context := []drainmark.Header{{Name: drainmark.TraceParent, Value: parent}}
	if state := traceState(states); state != "" {
		context = append(context, drainmark.Header{Name: drainmark.TraceState, Value: state})
	}
	return context
}

// ownHeaders returns what a request of one message has as headers of the message. Values must be printable ASCII: what
// other bytes mean in HTTP is not agreed on, and nothing is guessed.
func (r *request) ownHeaders() (own []drainmark.Header, err error) {
	for field, values := range r.Header {
		name, ok := strings.CutPrefix(field, headerPrefix)
		if !ok {
			continue
		}
		if len(values) > 1 {
			return nil, invalid("%d %.60s headers: there can be one", len(values), field)
		}
		for i := range len(values[0]) {
			if c := values[0][i]; c < ' ' || c > '~' {
				return nil, invalid("%.60s: character %d is not printable ASCII; a line of many can have any text", field, i+1)
			}
		}
		own = append(own, drainmark.Header{Name: name, Value: values[0]})
	}
	return own, nil
}

// noOwnHeaders refuses a request that has headers of the message where there are many, which say their own.
func (r *request) noOwnHeaders(instead string) error {
	own, err := r.ownHeaders()
	if err == nil && len(own) > 0 {
		err = invalid("%s%s: %s", headerPrefix, own[0].Name, instead)
	}
	return err
}

// headersOf makes the headers of a message of its own ones and the trace context of its request, in whose place it may
// have its own.
func headersOf(own, request []drainmark.Header) (drainmark.Headers, error) {
	var parents, states []string
	all := make([]drainmark.Header, 0, len(own)+len(request))
	for _, h := range own {
		switch strings.ToLower(h.Name) {
		case drainmark.TraceParent:
			parents = append(parents, strings.Trim(h.Value, " \t"))
		case drainmark.TraceState:
			states = append(states, h.Value)
		default:
			all = append(all, h)
		}
	}
	if len(parents)+len(states) == 0 {
		return drainmark.NewHeaders(append(all, request...)...)
	}
	context := traceContext(parents, states)
	switch {
	case len(context) == 0:
		return drainmark.Headers{}, invalid("header %q: it must be there once, as the W3C trace context has it",
			drainmark.TraceParent)
	case len(states) > 0 && len(context) < 2:
		return drainmark.Headers{}, invalid("header %q: it is not as the W3C trace context has it", drainmark.TraceState)
	}
	return drainmark.NewHeaders(append(all, context...)...)
}

// traceParent returns the well-formed W3C traceparent of a request as version 00 writes it, or "".
func traceParent(headers []string) string {
	const length = len("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	if len(headers) != 1 || len(headers[0]) < length {
		return ""
	}
	whole, s := headers[0], headers[0][:length]
	version, traceID, parentID, flags := s[:2], s[3:35], s[36:52], s[53:]
	wellFormed := s[2] == '-' && s[35] == '-' && s[52] == '-' && version != "ff" &&
		isHex(version) && isHex(traceID) && isHex(parentID) && isHex(flags) &&
		strings.Trim(traceID, "0") != "" && strings.Trim(parentID, "0") != ""
	switch {
	case !wellFormed:
		return ""
	case version == "00" && len(whole) == length:
		return whole
	case version != "00" && (len(whole) == length || whole[length] == '-'):
		return "00" + s[2:] // of a later version only what version 00 has too is known
	}
	return ""
}

// isHex says whether s is of lower-case hexadecimal digits.
func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// The limits of a tracestate (W3C trace context). One that is longer loses members, as it says.
const (
	maxStateMembers = 32
	maxStateBytes   = 512
	largeMember     = 128 // those that are longer go first
)

// traceState returns the tracestate headers of a request as one, or "" if they are malformed.
func traceState(headers []string) string {
	var members []string
	keys := map[string]bool{}
	for _, header := range headers {
		for member := range strings.SplitSeq(header, ",") {
			if member = strings.Trim(member, " \t"); member == "" {
				continue
			}
			key, value, ok := strings.Cut(member, "=")
			if !ok || keys[key] || !isStateKey(key) || !isStateValue(value) || len(members) == maxStateMembers {
				return ""
			}
			keys[key] = true
			members = append(members, member)
		}
	}
	for _, most := range []int{largeMember, 0} {
		for i := len(members) - 1; i >= 0 && len(strings.Join(members, ",")) > maxStateBytes; i-- {
			if len(members[i]) > most {
				members = slices.Delete(members, i, i+1)
			}
		}
	}
	return strings.Join(members, ",")
}

func isStateKey(key string) bool {
	for i := range len(key) {
		c := key[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (i == 0 || !strings.ContainsRune("_-*/@", rune(c))) {
			return false
		}
	}
	return key != "" && len(key) <= 256
}

func isStateValue(value string) bool {
	for i := range len(value) {
		if c := value[i]; c < ' ' || c > '~' || c == '=' {
			return false
		}
	}
	return value != "" && len(value) <= 256
}
