package redis

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Limits of what a server may answer, so that a broken one cannot take all memory.
const (
	maxBulk  = 512 << 20 // bytes; what Redis itself allows (proto-max-bulk-len)
	maxArray = 1 << 24   // elements
	maxDepth = 8         // arrays in arrays
)

// request is one or more commands in the Redis protocol, version 2.
type request struct{ buf []byte }

// command begins a command of so many arguments, its name included.
func (r *request) command(arguments int) *request {
	r.buf = append(r.buf, '*')
	r.buf = strconv.AppendInt(r.buf, int64(arguments), 10)
	r.buf = append(r.buf, '\r', '\n')
	return r
}

// add adds arguments.
func (r *request) add(arguments ...string) *request {
	for _, s := range arguments {
		r.size(len(s))
		r.buf = append(r.buf, s...)
		r.buf = append(r.buf, '\r', '\n')
	}
	return r
}

// bytes adds an argument that is made of parts.
func (r *request) bytes(parts ...[]byte) {
	n := 0
	for _, part := range parts {
		n += len(part)
	}
	r.size(n)
	for _, part := range parts {
		r.buf = append(r.buf, part...)
	}
	r.buf = append(r.buf, '\r', '\n')
}

// number adds an argument that is a number.
func (r *request) number(n uint64) *request {
	var text [20]byte
	r.bytes(strconv.AppendUint(text[:0], n, 10))
	return r
}

func (r *request) size(n int) {
	r.buf = append(r.buf, '$')
	r.buf = strconv.AppendInt(r.buf, int64(n), 10)
	r.buf = append(r.buf, '\r', '\n')
}

// one returns a request of one command.
func one(arguments ...string) *request {
	r := &request{}
	return r.command(len(arguments)).add(arguments...)
}

// reply is what a server answers to one command. Its bytes are its own.
type reply struct {
	kind byte // '+' text, ':' number, '$' bytes, '*' array, '_' nothing
	text []byte
	n    int64
	list []reply
}

func (r reply) String() string { return string(r.text) }

// isNil says whether there was nothing where something was asked for.
func (r reply) isNil() bool { return r.kind == '_' }

// at returns an element of an array, and nothing if it has none there.
func (r reply) at(i int) reply {
	if i < len(r.list) {
		return r.list[i]
	}
	return reply{kind: '_'}
}

// number returns an unsigned number, also from text; 0 from nothing.
func (r reply) number() (uint64, error) {
	switch {
	case r.isNil():
		return 0, nil
	case r.kind == ':':
		return uint64(r.n), nil
	}
	n, err := strconv.ParseUint(string(r.text), 10, 64)
	if err != nil {
		return 0, errors.New("a value in the store is no number")
	}
	return n, nil
}

// decoder reads replies. Small texts share memory, which saves most of the allocations of a page.
type decoder struct {
	*bufio.Reader
	spare []byte
}

const (
	spareBytes = 16 << 10 // how much memory is set aside at once
	largeBytes = 1 << 10  // from here on a text has memory of its own
)

func (d *decoder) memory(n int) []byte {
	if n >= largeBytes {
		return make([]byte, n)
	}
	if n > len(d.spare) {
		d.spare = make([]byte, spareBytes)
	}
	taken := d.spare[:n:n]
	d.spare = d.spare[n:]
	return taken
}

// reply reads one reply. What a server says is wrong comes back as *serverError, at the end of the reply; after any
// other error the connection is of no use.
func (d *decoder) reply(depth int) (reply, error) {
	line, err := d.line()
	if err != nil {
		return reply{}, err
	}
	if len(line) == 0 || depth > maxDepth {
		return reply{}, errMalformed
	}
	kind, rest := line[0], line[1:]
	switch kind {
	case '+':
		text := d.memory(len(rest))
		copy(text, rest)
		return reply{kind: kind, text: text}, nil
	case '-':
		return reply{}, newServerError(string(rest))
	}
	n, err := strconv.ParseInt(string(rest), 10, 64)
	switch {
	case err != nil:
		return reply{}, errMalformed
	case kind == ':':
		return reply{kind: kind, n: n}, nil
	case n == -1 && (kind == '$' || kind == '*'):
		return reply{kind: '_'}, nil
	case kind == '$' && n >= 0 && n <= maxBulk:
		return d.bulk(int(n))
	case kind == '*' && n >= 0 && n <= maxArray:
		return d.array(int(n), depth)
	}
	return reply{}, errMalformed
}

func (d *decoder) bulk(n int) (reply, error) {
	text := d.memory(n)
	if _, err := io.ReadFull(d, text); err != nil {
		return reply{}, err
	}
	if end, err := d.line(); err != nil || len(end) != 0 {
		return reply{}, errors.Join(errMalformed, err)
	}
	return reply{kind: '$', text: text}, nil
}

func (d *decoder) array(n, depth int) (reply, error) {
	r := reply{kind: '*', list: make([]reply, 0, min(n, 1024))}
	var failure error
	for range n {
		element, err := d.reply(depth + 1)
		if err != nil {
			var failed *serverError
			if !errors.As(err, &failed) {
				return reply{}, err
			}
			failure = err
		}
		r.list = append(r.list, element)
	}
	return r, failure
}

// line reads a line without its end. It is valid until the next read.
func (d *decoder) line() ([]byte, error) {
	line, err := d.ReadSlice('\n')
	if err != nil {
		if errors.Is(err, bufio.ErrBufferFull) {
			return nil, errMalformed
		}
		return nil, err
	}
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return nil, errMalformed
	}
	return line[:len(line)-2], nil
}

var errMalformed = fmt.Errorf("the server's answer is not the Redis protocol")
