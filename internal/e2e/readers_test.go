package e2e

import (
	"net/http"
	"time"
)

const readWait = 3 // seconds that a read with a receipt prefers to wait

// read pages through the logs.
func (c client) read() {
	for c.rest(c.pause) {
		log, after := c.log(), uint64(0)
		if c.random.IntN(4) > 0 { // mostly only what is new
			after = c.frontier(log)
			after -= min(after, c.random.Uint64N(200))
		}
		for c.rest(c.pause) {
			limit := 1 + c.random.IntN(1000)
			p, code, err := readPage(c.ctx, c.http, c.target().url, log, after, limit, "", 0)
			if code == http.StatusNotFound {
				break
			}
			c.addRead(pageRead{c.now(), err})
			if err != nil {
				break
			}
			if p.LastPosition < after { // of a replica that is behind
				break
			}
			c.observe(log, after, p)
			if len(p.Messages) == 0 {
				break
			}
			after = p.Messages[len(p.Messages)-1].Position
		}
	}
}

// readBack reads accepted appends back with their receipts.
func (c client) readBack() {
	for {
		select {
		case a := <-c.clients.readBacks:
			if r, shown := c.lookFor(a, c.target()); shown {
				c.addReadBack(r)
			}
		case <-c.stopping.Done():
			return
		}
	}
}

// lookFor looks for an append, with its receipt if it has one, from behind a position that it must be behind to the end
// of the log. It returns false if nothing was shown.
func (c client) lookFor(a acceptedAppend, at target) (found readBack, shown bool) {
	found = readBack{log: a.log, body: a.body}
	for after := a.after; found.found == 0; {
		p, code, err := readPage(c.ctx, c.http, at.url, a.log, after, 1000, a.receipt, readWait)
		if code == http.StatusNotFound {
			return found, true // a state in which the log has no message at all
		}
		if err != nil {
			return found, false
		}
		found.last = max(found.last, p.LastPosition)
		c.observe(a.log, after, p)
		for _, m := range p.Messages {
			if m.Body == a.body {
				found.found = m.Position
			}
		}
		if len(p.Messages) == 0 {
			break
		}
		after = p.Messages[len(p.Messages)-1].Position
	}
	return found, true
}

// takeBarriers asks for barriers, and reads what is there when one is reached.
func (c client) takeBarriers() {
	for c.rest(10 * c.pause) {
		at, asked := c.target(), c.now()
		starts := at.starts()
		receipt := c.askBarrier(at.url)
		if receipt == "" {
			continue
		}
		b := barrierCall{asked: asked, last: c.shown(at, receipt)}
		if starts == at.starts() {
			c.addBarrier(b)
		}
	}
}

// askBarrier asks for a barrier, some times, and returns its receipt if it is reached.
func (c client) askBarrier(base string) (receipt string) {
	url := base + "/v1/barriers"
	s, err := ask(c.ctx, c.http, http.MethodPost, url, readWait)
	for tries := 0; err == nil && s.State != "reached" && tries < 3 && c.rest(time.Second); tries++ {
		s, err = ask(c.ctx, c.http, http.MethodPost, url+"?receipt="+s.Receipt, readWait)
	}
	if err != nil || s.State != "reached" {
		return ""
	}
	return s.Receipt
}

// shown reads the end of every log after a barrier was reached, and returns the last positions. The backend that said
// so shows what the barrier holds, whoever asks. Another one does with the barrier's receipt.
func (c client) shown(at target, receipt string) map[string]uint64 {
	if at.backend != nil {
		receipt = ""
	}
	last := map[string]uint64{}
	for _, log := range c.logs {
		after := c.frontier(log)
		p, code, err := readPage(c.ctx, c.http, at.url, log, after, 1000, receipt, readWait)
		if err == nil {
			last[log] = p.LastPosition
			if p.LastPosition >= after { // else it is behind another replica, and has nothing to show
				c.observe(log, after, p)
			}
		} else if code == http.StatusNotFound {
			last[log] = 0
		}
	}
	return last
}
