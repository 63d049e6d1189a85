// Package jsonstring reads and writes the strings of JSON. It is stricter than encoding/json, which mends what it reads:
// invalid UTF-8, and halves of surrogate pairs.
package jsonstring

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// Scan returns the string that s begins with, without its quotes and with its escapes, and what follows.
func Scan(s []byte) (value, rest []byte, escaped, ok bool) {
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

// Unescape replaces the escapes of a string that Scan returned, in its place: no character is longer than its
// escape.
func Unescape(s []byte) []byte {
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

// HalfPair says whether a string of valid JSON has an escape for half of a surrogate pair.
func HalfPair(s []byte) bool {
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

// Append appends a JSON string exactly as encoding/json does when it is told to leave HTML alone.
func Append[T ~string | ~[]byte](dst []byte, text T) []byte {
	return append(AppendEscaped(append(dst, '"'), text), '"')
}

// AppendEscaped appends what stands between the quotes of a JSON string.
func AppendEscaped[T ~string | ~[]byte](dst []byte, text T) []byte {
	const digits = "0123456789abcdef"
	s := []byte(text) // does not escape: no copy is made of what is read only
	for len(s) > 0 {
		n := plain(s)
		dst, s = append(dst, s[:n]...), s[n:]
		if len(s) == 0 {
			break
		}
		if s[0] < utf8.RuneSelf {
			dst, s = appendEscape(dst, s[0]), s[1:]
			continue
		}
		r, size := utf8.DecodeRune(s)
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(dst, `\ufffd`...)
		case r == '\u2028' || r == '\u2029':
			dst = append(dst, `\u202`...)
			dst = append(dst, digits[r&0xf])
		default:
			dst = append(dst, s[:size]...)
		}
		s = s[size:]
	}
	return dst
}

// appendEscape appends an ASCII character that does not stand for itself.
func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	const digits = "0123456789abcdef"
	return append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&0xf])
}
