package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drainmark/drainmark/internal/resident"
)

var memoryLasts = flag.Duration("memory-lasts", 3*time.Second, "for how long TestMemoryOfAnswers keeps everything at its limit")

// P10: what clients ask for and do not read has a bound in memory. Pages that become 50 MB each, event streams that are
// behind by 8 MB, and followed logs that are written to are asked for all the time, by clients that read nothing; the
// process takes little more than before, and answers others.
func TestMemoryOfAnswers(t *testing.T) {
	t.Parallel()
	const mostGrowth = 256 << 20 * resident.Factor
	p := up(t, t.TempDir(), "--answer-bytes", "33554432", "--stream-bytes", "8388608", "--feed-bytes", "8388608")
	p.want(201, "POST", "/v1/logs/small/messages", "hello", "Prefer", "wait=30")
	controls := strings.Repeat("\x01", 256<<10)
	for range 31 {
		p.want(202, "POST", "/v1/logs/large/messages", controls, "Content-Type", "text/plain")
	}
	p.barrier()
	before, err := resident.Most(p.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}

	var clients sync.WaitGroup
	over := make(chan struct{})
	for range 40 {
		clients.Go(func() { unread(p.api, "/v1/logs/large/messages?limit=1000", over) })
	}
	for range 150 {
		clients.Go(func() { unread(p.api, "/v1/logs/large/events?after=0", over) })
	}
	for i := range 30 {
		clients.Go(func() { unread(p.api, fmt.Sprintf("/v1/logs/followed-%d/events?after=0", i), over) })
	}
	refused := false
	for i, end := 0, time.Now().Add(*memoryLasts); time.Now().Before(end); i++ {
		p.want(202, "POST", fmt.Sprintf("/v1/logs/followed-%d/messages", i%30), controls, "Content-Type", "text/plain")
		p.await("answers who asks for little", func() bool {
			a, err := p.call("GET", "/v1/logs/small/messages", "")
			return err == nil && a.status == http.StatusOK
		})
		a, err := p.call("GET", "/v1/logs/large/messages?limit=1000", "")
		refused = refused || err == nil && a.status == http.StatusServiceUnavailable && strings.Contains(string(a.body), "answer-bytes")
	}
	close(over)
	clients.Wait()
	if !refused {
		t.Error("nobody was refused, so the answers were not at their limit")
	}
	after, err := resident.Most(p.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d MiB before, %d MiB at most", before>>20, after>>20)
	if after-before > mostGrowth {
		t.Errorf("the process grew from %d MiB to %d MiB; the limits allow %d MiB more", before>>20, after>>20, mostGrowth>>20)
	}
	p.await("answers when all have gone", func() bool {
		a, err := p.call("GET", "/v1/logs/large/messages?limit=1000", "")
		return err == nil && a.status == http.StatusOK
	})
}

// unread asks for something again and again, and reads no more of the answers than that they begin.
func unread(api, path string, over <-chan struct{}) {
	address, _ := url.Parse(api)
	for {
		select {
		case <-over:
			return
		default:
		}
		connection, err := net.DialTimeout("tcp", address.Host, 5*time.Second)
		if err != nil {
			continue
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			status, err := bufio.NewReaderSize(connection, 16).ReadString('\n')
			if err != nil || !strings.Contains(status, " 200 ") {
				time.Sleep(100 * time.Millisecond) // as a client does that was refused
				return
			}
			<-over
		}()
		_, _ = io.WriteString(connection, "GET "+path+" HTTP/1.1\r\nHost: "+address.Host+"\r\n\r\n")
		select {
		case <-ended:
		case <-over:
		}
		connection.Close()
		<-ended
	}
}
