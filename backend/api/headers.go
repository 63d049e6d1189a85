package api

import (
	"strings"
	"time"
)

// preferredWait returns the wait that Prefer headers ask for (RFC 7240): the first preference of that name counts, and
// one that is malformed is as good as none.
func preferredWait(headers []string) (time.Duration, bool) {
	for _, header := range headers {
		for rest := header; rest != ""; {
			var preference string
			preference, rest = cutUnquoted(rest, ',')
			preference, _ = cutUnquoted(preference, ';') // its parameters mean nothing here
			name, value, _ := strings.Cut(preference, "=")
			if strings.EqualFold(strings.TrimSpace(name), "wait") {
				return deltaSeconds(unquote(strings.TrimSpace(value)))
			}
		}
	}
	return 0, false
}

// deltaSeconds reads a number of seconds (RFC 9111): more than an hour is an hour, however many digits it has.
func deltaSeconds(s string) (time.Duration, bool) {
	const most = 3600
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = min(10*n+int(s[i]-'0'), most)
	}
	return time.Duration(n) * time.Second, s != ""
}

// cutUnquoted cuts s at the first separator that is not within a quoted string.
func cutUnquoted(s string, separator byte) (before, after string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '\\' && quoted:
			i++
		case s[i] == separator && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// unquote takes the quotes from a quoted string. The values read here need no escapes.
func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

// idempotencyKey reads the Idempotency-Key headers: none, or one. It is a string in quotes (RFC 9651) or, because many
// clients leave the quotes out, visible characters without any that could end it. The key itself is printable ASCII.
func idempotencyKey(headers []string) (string, error) {
	if len(headers) == 0 {
		return "", nil
	}
	if len(headers) > 1 {
		return "", invalid("%d %s headers: there can be one", len(headers), idempotencyHeader)
	}
	key := strings.Trim(headers[0], " \t")
	if strings.HasPrefix(key, `"`) {
		var ok bool
		if key, ok = structuredString(key); !ok {
			return "", invalid(`%s %.40q: it is not a string in quotes, in which only \" and \\ are escaped`, idempotencyHeader, headers[0])
		}
	} else if strings.ContainsAny(key, " \t\"\\,;") {
		return "", invalid("%s %.40q: a key with such characters must be in quotes", idempotencyHeader, headers[0])
	}
	return key, checkText(idempotencyHeader, key, maxKey)
}

// structuredString reads a string of RFC 9651 that is the whole of s, quotes included.
func structuredString(s string) (string, bool) {
	if len(s) < 2 || s[len(s)-1] != '"' {
		return "", false
	}
	s = s[1 : len(s)-1]
	if !strings.ContainsAny(s, `"\`) {
		return s, true
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			i++
			if i == len(s) || s[i] != '"' && s[i] != '\\' {
				return "", false
			}
		} else if s[i] == '"' {
			return "", false
		}
		out.WriteByte(s[i])
	}
	return out.String(), true
}

// checkText says why a text cannot be a key or a content type: it must have 1 to most characters of printable ASCII.
func checkText[T ~string | ~[]byte](what string, text T, most int) error {
	if len(text) == 0 || len(text) > most {
		return invalid("%s of %d characters: it must have 1 to %d", what, len(text), most)
	}
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return invalid("%s: character %d is not printable ASCII", what, i+1)
		}
	}
	return nil
}

// matches says whether an If-None-Match header names the weak tag (RFC 9110). Our tags have no commas or quotes.
func matches(headers []string, tag string) bool {
	for _, candidate := range names(headers) {
		if candidate == "*" || strings.TrimPrefix(candidate, "W/") == strings.TrimPrefix(tag, "W/") {
			return true
		}
	}
	return false
}
