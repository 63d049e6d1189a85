package verify

import "time"

// outcome is what became of an append, as far as its client can know.
type outcome uint8

const (
	unsent  outcome = iota // the run ended before its turn
	refused                // every answer said that nothing was done
	unknown                // given up, and it may have been done
	done                   // accepted
)

// message names a message of the run: its index in history.appends.
type message uint32

// nobody is the message that cannot be told.
const nobody = ^message(0)

// appendCall is one append: from before its first try was sent until after its last one was answered. It took effect
// at some moment between these, if it did; an unknown one, at any moment after sent.
type appendCall struct {
	sent     time.Duration // since the run began; the lines of one request have the same
	answered time.Duration // only if done
	outcome  outcome
}

// history is everything that a run saw, in a form that can be judged without the deployment. For a message it takes
// about 70 bytes.
type history struct {
	clients   int
	appends   []appendCall // of all clients: see index
	cleared   *clearCall   // nil until the clear is over
	barriers  []barrierCall
	final     bool // the last barrier was asked for after the last append
	readBacks []readBack
	first     *reading // nil until everything has been read
	second    *reading // the same again
	resent    int      // requests that were sent once more after they had been accepted
}

// index returns the message that is a client's (from 0) number-th (from 1).
func (h *history) index(client, number int) message {
	return message((number-1)*h.clients + client)
}

// client and number undo index.
func (h *history) client(m message) int { return int(m) % h.clients }
func (h *history) number(m message) int { return int(m)/h.clients + 1 }

// messagesOf returns how many messages a client has to append.
func (h *history) messagesOf(client int) int {
	return (len(h.appends) - client + h.clients - 1) / h.clients
}

// clearCall is what was seen of the clear that a run begins with.
type clearCall struct {
	before uint64 // the log's last position; one message was accepted behind it, before the clear
	last   uint64 // the log's last position when the clear was persisted and a barrier was reached
	count  uint64 // what the log said then that it held
	shown  uint64 // the position of the first message that it showed then, 0 for none
}

// barrierCall is a barrier that was reached, and the count that was read right behind it.
type barrierCall struct {
	asked   time.Duration
	reached time.Duration
	counted time.Duration // when the count was answered
	count   uint64
	fault   string // why it was not answered, and cannot be judged
}

// readBack is a read with the receipt of an append, from behind a position that the append must be behind.
type readBack struct {
	message message
	asked   time.Duration
	after   uint64
	refused bool   // no state was shown: the write was not visible yet, or no answer came
	last    uint64 // the log's last position in the first state shown
	found   uint64 // the position of the message, 0 if it was not there
}

// condition is what was found of a message.
type condition uint8

const (
	intact condition = iota
	damaged
	foreign // not of this run
)

// seen is a message as it was read.
type seen struct {
	position  uint64
	digest    uint64 // of everything about it that never changes
	message   message
	condition condition
}

// reading is the whole log, read page by page.
type reading struct {
	limit        int    // messages on a page
	messages     []seen // in the order in which they came
	lastPosition uint64 // as the first page said, which is how far was read
	took         time.Duration
	faults       map[uint64]string // what is wrong with the damaged message at a position, for the first few
	strangers    []Foreign         // the first few foreign messages
}
