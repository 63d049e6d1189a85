package api

import (
	"bytes"

	"github.com/drainmark/drainmark/internal/jsonstring"
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
		if name, rest, _, ok = jsonstring.Scan(rest); !ok {
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
			value, rest, escaped[i], ok = jsonstring.Scan(rest)
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
			f[i].value = jsonstring.Unescape(f[i].value)
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
			if pair[i], rest, escaped, ok = jsonstring.Scan(rest); !ok {
				return s, false
			}
			if escaped && take != nil {
				pair[i] = jsonstring.Unescape(bytes.Clone(pair[i]))
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
