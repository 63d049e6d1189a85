package api

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// scan is the short cut for lines of the common shape: an object of our fields, each at most once, all of them strings,
// or an object of strings where that belongs.
// It says false of anything else, right or wrong, and has then changed nothing but f. parse takes over. Everything that
// it takes, parse would take the same way.
func (f *fields) scan(line []byte) bool {
	var escaped [numFields]bool
	rest, ok := next(line, '{')
	for more := true; more; {
		var name, value []byte
		if !ok {
			return false
		}
		if name, rest, _, ok = scanString(rest); !ok {
			return false
		}
		i := fieldIndex(name)
		if i < 0 || f[i].set {
			return false
		}
		if rest, ok = next(rest, ':'); !ok {
			return false
		}
		if i == fieldHeaders {
			value = rest
			rest, ok = scanObject(rest, nil)
			value = value[:len(value)-len(rest)]
		} else {
			value, rest, escaped[i], ok = scanString(rest)
		}
		if !ok {
			return false
		}
		f[i] = text{value, true}
		if rest, more = next(rest, ','); !more {
			rest, ok = next(rest, '}')
		}
	}
	if !ok || len(rest) != 0 {
		return false
	}
	for i := range f {
		if escaped[i] {
			f[i].value = unescape(f[i].value)
		}
	}
	return true
}

// fieldIndex returns the index of a field's name as it stands in a line, or -1.
func fieldIndex(name []byte) int {
	switch string(name) {
	case fieldNames[fieldBody]:
		return fieldBody
	case fieldNames[fieldBase64]:
		return fieldBase64
	case fieldNames[fieldType]:
		return fieldType
	case fieldNames[fieldKey]:
		return fieldKey
	case fieldNames[fieldHeaders]:
		return fieldHeaders
	}
	return -1
}

// scanObject reads the object of strings that s begins with, and returns what follows. Unless take is nil, it gets each
// name and value, which it must not keep.
func scanObject(s []byte, take func(name, value []byte)) (rest []byte, ok bool) {
	if rest, ok = next(s, '{'); !ok {
		return s, false
	}
	if len(rest) > 0 && rest[0] == '}' {
		return rest[1:], true
	}
	for more := true; more; {
		var pair [2][]byte
		for i := range pair {
			var escaped bool
			if pair[i], rest, escaped, ok = scanString(rest); !ok {
				return s, false
			}
			if escaped && take != nil {
				pair[i] = unescape(bytes.Clone(pair[i]))
			}
			if i == 0 {
				if rest, ok = next(rest, ':'); !ok {
					return s, false
				}
			}
		}
		if take != nil {
			take(pair[0], pair[1])
		}
		rest, more = next(rest, ',')
	}
	rest = skipSpace(rest)
	if len(rest) == 0 || rest[0] != '}' {
		return s, false
	}
	return rest[1:], true
}

// next returns what follows the character c and the white space around it.
func next(s []byte, c byte) (rest []byte, ok bool) {
	s = skipSpace(s)
	if len(s) == 0 || s[0] != c {
		return s, false
	}
	return skipSpace(s[1:]), true
}

func skipSpace(s []byte) []byte {
	for len(s) > 0 && isSpace(s[0]) {
		s = s[1:]
	}
	return s
}

// scanString returns the string that s begins with, without its quotes and with its escapes, and what follows.
func scanString(s []byte) (value, rest []byte, escaped, ok bool) {
	if len(s) == 0 || s[0] != '"' {
		return nil, nil, false, false
	}
	s = s[1:]
	ascii := true
	for i := 0; ; {
		i += plain(s[i:])
		if i == len(s) {
			return nil, nil, false, false
		}
		switch c := s[i]; {
		case c == '"':
			value = s[:i]
			return value, s[i+1:], escaped, ascii || utf8.Valid(value)
		case c == '\\':
			_, n := escape(s[i:])
			if n == 0 {
				return nil, nil, false, false
			}
			escaped = true
			i += n
		case c >= utf8.RuneSelf:
			ascii = false
			i++
		default:
			return nil, nil, false, false // a control character
		}
	}
}

// plain returns how many characters s begins with that stand for themselves: ASCII, and neither control character,
// quote nor backslash. It looks at eight at a time: a byte of special has its high bit set if the character is one of
// those (or, above the first one, perhaps without reason).
func plain(s []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(s); i += 8 {
		x := binary.LittleEndian.Uint64(s[i:])
		special := (x | (x - ones*' ') | ((x ^ ones*'"') - ones) | ((x ^ ones*'\\') - ones)) & highs
		if special != 0 {
			return i + bits.TrailingZeros64(special)/8
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			break
		}
	}
	return i
}

// escape returns the character that the escape at the start of s stands for, and how long the escape is: both halves
// of a surrogate pair are one. The length is 0 for what is no escape, and for half a pair.
func escape(s []byte) (r rune, n int) {
	if len(s) < 2 {
		return 0, 0
	}
	if i := bytes.IndexByte([]byte(`"\/bfnrt`), s[1]); i >= 0 {
		return rune("\"\\/\b\f\n\r\t"[i]), 2
	}
	r, ok := hexRune(s)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	low, _ := hexRune(s[6:])
	if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
		return 0, 0
	}
	return r, 12
}

// hexRune reads \uXXXX.
func hexRune(s []byte) (r rune, ok bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	for _, c := range s[2:6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// unescape replaces the escapes of a string that scanString returned, in its place: no character is longer than its
// escape.
func unescape(s []byte) []byte {
	to := bytes.IndexByte(s, '\\')
	for from := to; from < len(s); {
		if s[from] == '\\' {
			r, n := escape(s[from:])
			to += utf8.EncodeRune(s[to:], r)
			from += n
			continue
		}
		end := bytes.IndexByte(s[from:], '\\')
		if end < 0 {
			end = len(s) - from
		}
		to += copy(s[to:], s[from:from+end])
		from += end
	}
	return s[:to]
}

// halfPair says whether a string of valid JSON has an escape for half of a surrogate pair.
func halfPair(s []byte) bool {
	for {
		i := bytes.IndexByte(s, '\\')
		if i < 0 {
			return false
		}
		_, n := escape(s[i:])
		if n == 0 {
			return true
		}
		s = s[i+n:]
	}
}
