package httpserve

import "encoding/binary"

// What matters here of HTTP/2 (RFC 9113).
const (
	preface           = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" // with which a client begins
	frameHeader       = 9                                  // bytes
	frameHeaders      = 0x1                                // a type: begins a request's header
	frameContinuation = 0x9                                // a type: goes on with it
	flagEndHeaders    = 0x4
)

// frameScan follows the frames that a client sends, to see which are not complete: net/http waits for the rest of a
// frame, and of a request's header, for ever.
type frameScan struct {
	skip   int // bytes before the first frame
	header [frameHeader]byte
	size   int   // of the frame's header so far
	left   int   // of the frame's content
	field  bool  // the frame is of a request's header
	last   bool  // and its last one
	held   int64 // bytes of a request's header that is not complete
}

func newFrameScan() *frameScan { return &frameScan{skip: len(preface)} }

// scan takes in the next bytes, and says whether something is left incomplete.
func (s *frameScan) scan(p []byte) (incomplete bool) {
	for len(p) > 0 {
		switch {
		case s.skip > 0:
			n := min(s.skip, len(p))
			s.skip, p = s.skip-n, p[n:]
		case s.left > 0:
			n := min(s.left, len(p))
			if s.left, p = s.left-n, p[n:]; s.field {
				s.held += int64(n)
			}
			if s.left == 0 {
				s.end()
			}
		default:
			n := copy(s.header[s.size:], p)
			if s.size, p = s.size+n, p[n:]; s.size == frameHeader {
				s.begin()
			}
		}
	}
	return s.size > 0 || s.left > 0 || s.field
}

// begin takes in a frame's header.
func (s *frameScan) begin() {
	s.size = 0
	s.left = int(binary.BigEndian.Uint32(s.header[:]) >> 8)
	kind, flags := s.header[3], s.header[4]
	s.field = kind == frameHeaders || kind == frameContinuation
	s.last = flags&flagEndHeaders != 0
	if s.field {
		s.held += frameHeader
	}
	if s.left == 0 {
		s.end()
	}
}

// end is called at a frame's end.
func (s *frameScan) end() {
	if s.field && s.last {
		s.field, s.held = false, 0
	}
}
