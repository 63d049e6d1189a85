package history

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// flushEvery is how much of a history the death of the process can cost.
const flushEvery = 200 * time.Millisecond

// Writer writes a history. It may be used by many goroutines. It keeps nothing but a buffer in memory.
type Writer struct {
	mu      sync.Mutex
	out     *bufio.Writer
	encoder *json.Encoder
	flushed time.Time
	err     error
}

// NewWriter returns a writer to out, which is the caller's to close, after Flush.
func NewWriter(out io.Writer) *Writer {
	w := &Writer{out: bufio.NewWriterSize(out, 256<<10), flushed: time.Now()}
	w.encoder = json.NewEncoder(w.out)
	w.encoder.SetEscapeHTML(false)
	return w
}

// Write writes one line. After an error, which Err and Flush return, it does nothing: a run must end then, for what it
// cannot write it cannot judge.
func (w *Writer) Write(l Line) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = w.encoder.Encode(l)
	}
	if w.err == nil && time.Since(w.flushed) >= flushEvery {
		w.err = w.out.Flush()
		w.flushed = time.Now()
	}
}

// Err returns the first error.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wrap()
}

// Flush writes what is in the buffer, and returns the first error.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = w.out.Flush()
	}
	return w.wrap()
}

func (w *Writer) wrap() error {
	if w.err == nil {
		return nil
	}
	return fmt.Errorf("writing the history: %w", w.err)
}
