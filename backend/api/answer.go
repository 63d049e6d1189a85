package api

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

// pieceBytes is how many bytes of an answer, or of events, are made before they are written: each write has a time of
// its own, and a piece takes little memory however large the whole is. It must be well above what encoder appends at
// once.
const pieceBytes = 64 << 10

// slowest is how many bytes a second a client must read of a long answer, besides the time that it has for each write.
const slowest = 256 << 10

// buffers keeps the memory of pieces for the next ones.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

func getBuffer() *[]byte { return buffers.Get().(*[]byte) }

func putBuffer(b *[]byte) {
	if cap(*b) <= 2*pieceBytes {
		*b = (*b)[:0]
		buffers.Put(b)
	}
}

// long is an answer that is written while it is made.
type long struct {
	handler *handler
	w       http.ResponseWriter
	began   time.Time // of writing
	written int64
}

// respondLong writes a JSON answer of any length and of that content type. encode makes it with the encoder that it is given,
// each time the same. An answer of more than one piece is made twice: once for its length, without which a client could not
// tell how much is to come, nor every client whether all has come.
func (h *handler) respondLong(w http.ResponseWriter, r *request, contentType string, encode func(e *encoder, dst []byte) []byte) {
	buffer := getBuffer()
	defer putBuffer(buffer)
	length := 0
	count := func(piece []byte) []byte {
		length += len(piece)
		return piece[:0]
	}
	*buffer = append(encode(&encoder{full: count}, (*buffer)[:0]), '\n')
	if length == 0 {
		h.respond(w, http.StatusOK, contentType, *buffer)
		return
	}
	header := w.Header()
	header.Set("Content-Type", contentType)
	header.Set("Content-Length", strconv.Itoa(length+len(*buffer)))
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	l := long{handler: h, w: w, began: time.Now()}
	*buffer = append(encode(&encoder{full: l.write}, (*buffer)[:0]), '\n')
	l.write(*buffer)
}

// write writes a piece, and returns the buffer for the next one. If it cannot, it ends the handler and the connection, so
// that the client sees that its answer is cut off.
func (l *long) write(piece []byte) []byte {
	now, limit := time.Now(), l.handler.limits.Write
	due := l.began.Add(limit + time.Duration(l.written/slowest)*time.Second)
	if next := now.Add(limit); next.Before(due) {
		due = next
	}
	_ = http.NewResponseController(l.w).SetWriteDeadline(due) // see respond
	if _, err := l.w.Write(piece); err != nil {
		panic(http.ErrAbortHandler)
	}
	l.written += int64(len(piece))
	return piece[:0]
}
