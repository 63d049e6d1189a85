package app

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drainmark/drainmark/internal/resident"
)

// boundedFor is how long each attack of TestMemoryOfConnections lasts.
var boundedFor = flag.Duration("bounded", time.Second, "how long each attack of TestMemoryOfConnections lasts")

// P10: whatever clients do with connections, headers and bodies, a process has the memory that its limits allow, and works
// again at once when they have gone.
func TestMemoryOfConnections(t *testing.T) {
	t.Parallel()
	const (
		bodies      = 32 << 20
		connections = 300
		header      = 64 << 10
		// A connection also costs its goroutines, its buffers and net/http's state.
		each = 64 << 10
		// The heap is collected when it has doubled. The broker and the store have memory of their own.
		growth = 120<<20 + 2*(bodies+connections*(each+header))
	)
	most := int64(growth)
	if resident.Factor > 1 { // the race detector needs as much again, or more
		most *= 3
	}
	junk := bytes.Repeat([]byte("x"), 20_000_000)
	chunk := []byte("10000\r\n" + strings.Repeat("x", 0x10000) + "\r\n")
	up := up(t, t.TempDir(), "--body-bytes", fmt.Sprint(bodies), "--connections", fmt.Sprint(connections))
	front := startFrontend(t, up)
	idle := map[*program]int64{up: mostMemory(t, up), front: mostMemory(t, front)}
	for name, attack := range map[string]func(net.Conn){
		"bodies that are only announced": func(c net.Conn) {
			_, _ = io.WriteString(c, manyLines("Content-Length: 8000000"))
		},
		"bodies that stop before their end": func(c net.Conn) {
			_, _ = io.WriteString(c, manyLines("Content-Length: 8000000"))
			_, _ = c.Write(junk[:7_900_000])
		},
		"chunks without an end": func(c net.Conn) {
			_, _ = io.WriteString(c, manyLines("Transfer-Encoding: chunked"))
			for range 100 {
				if _, err := c.Write(chunk); err != nil {
					return
				}
			}
		},
		"headers without an end": func(c net.Conn) {
			_, _ = io.WriteString(c, "GET /v1 HTTP/1.1\r\nHost: localhost\r\nX: ")
			_, _ = c.Write(junk[:1_000_000])
		},
		"requests that are refused early": func(c net.Conn) {
			_, _ = io.WriteString(c, "POST /v1/nosuch HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000000\r\n\r\n")
			_, _ = c.Write(junk)
		},
	} {
		for _, p := range []*program{up, front} {
			besiege(p.api, connections, attack)
			grown := mostMemory(t, p) - idle[p]
			t.Logf("after %s at %s: grown by %d MiB so far, and the limit is %d", name, p.cmd.Args[1], grown>>20, most>>20)
			if grown > most {
				t.Error("that is too much")
			}
			p.await("works again", func() bool {
				a, err := p.call("POST", "/v1/logs/after/messages", "hello")
				return err == nil && a.status == 202
			})
		}
	}
}

// mostMemory returns the most memory that a process has had so far.
func mostMemory(t *testing.T, p *program) int64 {
	t.Helper()
	n, err := resident.Most(p.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func manyLines(length string) string {
	return "POST /v1/logs/a/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n" + length + "\r\n\r\n"
}

// besiege has clients do something on connections of their own, which they keep until all have done it, and again for as
// long as attacks last.
func besiege(url string, clients int, attack func(net.Conn)) {
	for end := time.Now().Add(*boundedFor); ; {
		var acting, holding sync.WaitGroup
		done := make(chan struct{})
		for range clients + clients/4 { // more than there may be
			acting.Add(1)
			holding.Go(func() {
				c, err := net.DialTimeout("tcp", strings.TrimPrefix(url, "http://"), attackTime)
				if err == nil {
					defer c.Close()
					_ = c.SetDeadline(time.Now().Add(attackTime))
					attack(c)
				}
				acting.Done()
				<-done
			})
		}
		acting.Wait()
		close(done)
		holding.Wait()
		if time.Now().After(end) {
			return
		}
	}
}

// attackTime is how long a client may take for what it does.
const attackTime = 20 * time.Second
