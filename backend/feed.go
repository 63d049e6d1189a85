package backend

import (
	"math"
	"sync"
	"unsafe"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// feed keeps the newest messages of one log in memory, so that one read of the store after a commit serves every
// subscriber. A subscriber is only a position: it holds no memory here, however slow it is.
type feed struct {
	limits      *Limits
	log         string
	partition   int
	subscribers int  // guarded by feeds.mu
	turn        turn // guarded by feeds.mu

	mu       sync.Mutex
	ready    bool // which is the last position has been read
	ended    bool // nobody follows it now
	messages []drainmark.Message
	bytes    int           // that they take
	last     uint64        // position of the newest message seen, with which messages ends unless it is empty
	stored   uint64        // the log's last position as it was read last: below last when the store has lost its tail
	cleared  uint64        // where the log began then, less one
	erasures uint64        // how many erasures it had had
	changed  chan struct{} // closed when last or stored moves
}

// turn is where a feed stands between two reads.
type turn int

const (
	idle         turn = iota
	waits             // in the queue
	reading           // being read
	readingStale      // being read, and written to since
)

const feedPage = 1000 // messages that are read from the store at once

// place says where the feed is to be read: behind the last message seen. The first time it only says which that is.
func (f *feed) place() (after uint64, limit int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ready {
		return math.MaxInt64, 1
	}
	return f.last, feedPage
}

// add takes a page in, keeps at most so many bytes, drops what is too old to keep, and wakes the subscribers. It says
// whether there is more to read, and how many bytes more are held.
func (f *feed) add(page *store.Page, most int) (more bool, grown int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return false, 0
	}
	before := f.bytes
	changed := len(page.Messages) > 0 || !f.ready || f.stored != page.Log.LastPosition
	f.stored = page.Log.LastPosition
	f.drop(&page.Log)
	if !f.ready {
		f.ready, f.last = true, page.Log.LastPosition
	}
	if len(page.Messages) > 0 {
		if page.Messages[0].Position != f.last+1 { // the messages between have been cleared
			f.messages, f.bytes = nil, 0
		}
		for i := range page.Messages {
			f.bytes += memoryOf(&page.Messages[i])
		}
		f.messages, f.last = append(f.messages, page.Messages...), page.Messages[len(page.Messages)-1].Position
		f.trim()
		if f.bytes > most {
			f.keep(len(f.messages), most)
		}
	}
	if changed {
		close(f.changed)
		f.changed = make(chan struct{})
	}
	return f.last < page.Log.LastPosition, f.bytes - before
}

// drop forgets what has been removed from the log since it was read last. After an erasure that is all: which message it
// was is not known. Called with mu held.
func (f *feed) drop(log *drainmark.LogInfo) {
	if log.Erasures != f.erasures {
		f.messages, f.bytes = nil, 0
	}
	if log.ClearedThrough > f.cleared && len(f.messages) > 0 && f.messages[0].Position <= log.ClearedThrough {
		gone := min(log.ClearedThrough-f.messages[0].Position+1, uint64(len(f.messages)))
		f.keep(len(f.messages)-int(gone), math.MaxInt)
	}
	f.erasures, f.cleared = log.Erasures, log.ClearedThrough
}

// memoryOf returns about how many bytes a message takes. The arrays of messages are up to a quarter larger than needed.
func memoryOf(m *drainmark.Message) int {
	return m.Size() + len(m.ContentType) + int(unsafe.Sizeof(*m))*5/4
}

// trim drops the oldest messages above the feed's own limits, but only when there are many of them, because it copies
// the others. Called with mu held.
func (f *feed) trim() {
	if len(f.messages) > f.limits.FeedMessages+feedPage || f.bytes > 2*f.limits.FeedBytes {
		f.keep(f.limits.FeedMessages, f.limits.FeedBytes)
	}
}

// keep drops the oldest messages so that at most so many stay, of at most so many bytes together. It needs a new array,
// because subscribers still read the old one. Called with mu held.
func (f *feed) keep(messages, bytes int) {
	drop := 0
	for drop < len(f.messages) && (len(f.messages)-drop > messages || f.bytes > bytes) {
		f.bytes -= memoryOf(&f.messages[drop])
		drop++
	}
	left := len(f.messages) - drop
	if left == 0 {
		f.messages = nil
		return
	}
	f.messages = append(make([]drainmark.Message, 0, left+left/4), f.messages[drop:]...)
}

// holds returns how many bytes the feed holds.
func (f *feed) holds() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bytes
}

// shrink drops the oldest messages above so many bytes, and returns how many bytes they took.
func (f *feed) shrink(bytes int) (freed int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.bytes
	if before > bytes {
		f.keep(len(f.messages), bytes)
	}
	return before - f.bytes
}

// end frees everything, and returns how many bytes that was.
func (f *feed) end() (freed int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	freed = f.bytes
	f.ended, f.messages, f.bytes = true, nil, 0
	return freed
}
