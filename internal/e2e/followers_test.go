package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// streamTime is for how long a follower stays with one event stream at most.
const streamTime = 8 * time.Second

// follow follows a log by its event streams, one after the other, each of which begins where the last one ended.
func (c client) follow() {
	log, last := c.logs[c.index%len(c.logs)], uint64(0)
	for c.rest(c.pause) {
		last = c.stream(c.target().url, log, last)
	}
}

// stream follows one event stream from behind a position until it ends, and returns the position of the last event.
// Every event has to be the next message of the log.
func (c client) stream(base, log string, last uint64) uint64 {
	ctx, cancel := context.WithTimeout(c.stopping, time.Duration(c.random.Int64N(int64(streamTime))))
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/v1/logs/"+log+"/events", nil)
	if err != nil {
		c.addViolation(violation{"P4", err.Error()})
		return last
	}
	q.Header.Set("Last-Event-ID", fmt.Sprint(last))
	response, err := c.http.Do(q)
	if err != nil {
		return last
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok || response.StatusCode != http.StatusOK {
			continue
		}
		var m message
		if err := json.Unmarshal([]byte(data), &m); err != nil {
			break // cut off in the middle
		}
		if m.Position != last+1 {
			c.addViolation(violation{"P4", fmt.Sprintf("%s: an event stream goes on from %d with %d", log, last, m.Position)})
		}
		last = m.Position
		c.observe(log, last-1, page{Messages: []message{m}, LastPosition: last})
	}
	return last
}
