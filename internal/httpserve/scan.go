package httpserve

import "bytes"

// headerScan looks for the fields of a request's header that say how long its body is. net/http takes a request that
// has both Content-Length and Transfer-Encoding for a chunked one and forgets the length, so a handler cannot tell it
// from others. But somebody in between may have gone by the length (RFC 9112, section 6.3).
type headerScan struct {
	name    [len("transfer-encoding")]byte // of the field whose line has begun
	size    int                            // of the name so far, above len(name) if it is none that is looked for
	inValue bool
	ended   bool // the empty line was seen
	length  bool // there is a Content-Length
	coding  bool // there is a Transfer-Encoding
}

// scan takes in the next bytes of the header. It does not look at what follows the header.
func (s *headerScan) scan(p []byte) {
	for len(p) > 0 && !s.ended {
		if s.inValue {
			end := bytes.IndexByte(p, '\n')
			if end < 0 {
				return
			}
			s.size, s.inValue, p = 0, false, p[end+1:]
			continue
		}
		s.next(p[0])
		p = p[1:]
	}
}

// next takes in a byte of a field's name, or what ends it.
func (s *headerScan) next(c byte) {
	switch {
	case c == ':':
		s.field()
		s.inValue = true
	case c == '\n' && (s.size == 0 || s.size == 1 && s.name[0] == '\r'):
		s.ended = true
	case c == '\n':
		s.size = 0
	case s.size < len(s.name):
		s.name[s.size] = c
		s.size++
	default:
		s.size = len(s.name) + 1
	}
}

// field notes a field whose name has ended.
func (s *headerScan) field() {
	if s.size > len(s.name) {
		return
	}
	name := s.name[:s.size]
	s.length = s.length || bytes.EqualFold(name, []byte("Content-Length"))
	s.coding = s.coding || bytes.EqualFold(name, []byte("Transfer-Encoding"))
}
