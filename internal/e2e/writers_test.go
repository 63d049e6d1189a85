package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// style is how a writer appends.
type style struct {
	lines int  // messages in a request; 1 for a single one
	keyed bool // with a key, and tried again as long as it is not accepted
	wait  int  // seconds that it prefers to wait; 0 for none
}

// Writer i has style i modulo their number.
var styles = []style{{lines: 1}, {lines: 1, keyed: true}, {lines: 15}, {lines: 15, keyed: true}, {lines: 1, keyed: true, wait: 2}}

const (
	attempts      = 6 // of an append with a key
	readBackEvery = 4 // accepted appends
)

// write appends, one request after the other.
func (c client) write() {
	how := styles[c.index%len(styles)]
	for number, acceptedOnes := 1, 0; c.rest(c.pause); number++ {
		call := &appendCall{log: c.log()}
		for line := range how.lines {
			call.bodies = append(call.bodies, fmt.Sprintf("writer %d, request %d, line %d", c.index, number, line))
		}
		after := c.frontier(call.log)
		at := c.append(call, how)
		if call.outcome != accepted {
			c.rest(5 * c.pause)
			continue
		}
		this := acceptedAppend{call.log, call.bodies[len(call.bodies)-1], after, call.receipt}
		if at != nil {
			c.lookAt(this, *at)
		}
		if acceptedOnes++; acceptedOnes%readBackEvery == 0 {
			select {
			case c.clients.readBacks <- this:
			default: // those who read back are busy
			}
		}
	}
}

// lookAt looks for an append at the backend that has said that it is persisted: there it is shown to everybody.
func (c client) lookAt(a acceptedAppend, at answered) {
	a.receipt = ""
	if r, shown := c.lookFor(a, at.target); shown && at.starts == at.target.starts() {
		c.addReadBack(r)
	}
}

// answered is a backend's process that has answered.
type answered struct {
	target target
	starts int64 // of the backend, before the request was sent
}

// append makes one append, and notes what became of it. As long as no attempt was accepted, one of unknown outcome
// leaves it unknown. It returns the backend that says that the append is persisted, nil if none does.
func (c client) append(call *appendCall, how style) (persistedBy *answered) {
	r := request{method: "POST", body: appendBody(call, how), header: []string{"Content-Type", "text/plain"}, wait: how.wait}
	if how.lines > 1 {
		r.header[1] = "application/x-ndjson"
	}
	tries := 1
	if how.keyed {
		r.header = append(r.header, "Idempotency-Key", fmt.Sprintf("%q", call.bodies[0]))
		tries = attempts
	}
	defer c.addCall(call)
	call.sent = c.now()
	for call.attempts < tries && call.outcome != accepted {
		if call.attempts > 0 && !c.rest(time.Second) {
			return nil
		}
		call.attempts++
		at := c.target()
		starts := at.starts()
		r.url = messagesURL(at.url, call.log)
		a, err := send(c.ctx, c.http, r)
		call.outcome = max(call.outcome, outcomeOf(a, err))
		call.answered = c.now()
		call.receipt = a.header.Get("Drainmark-Receipt")
		if a.status == http.StatusCreated && at.backend != nil {
			persistedBy = &answered{at, starts}
		}
	}
	return persistedBy
}

func appendBody(call *appendCall, how style) []byte {
	if how.lines == 1 {
		return []byte(call.bodies[0])
	}
	var b bytes.Buffer
	for _, body := range call.bodies {
		line, _ := json.Marshal(map[string]string{"body": body}) // of strings: it cannot fail
		b.Write(append(line, '\n'))
	}
	return b.Bytes()
}
