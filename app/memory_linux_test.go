package app

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drainmark/drainmark/internal/resident"
)

var memoryLasts = flag.Duration("memory-lasts", 3*time.Second, "for how long TestMemoryOfAnswers keeps everything at its limit")

// P10: what clients ask for and do not read has a bound in memory. Pages that become 50 MB each, event streams that are
// behind by 8 MB, and followed logs that are written to are asked for all the time, by clients that read nothing. The
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
	end := time.Now().Add(*memoryLasts)
	for i := 0; time.Now().Before(end) || !refused && time.Now().Before(end.Add(2*time.Minute)); i++ {
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

// P10: the collector has room for as many connections as there are. An event stream takes less than the soft limit on
// memory is raised by for it, and the limit goes back when the streams have ended.
func TestMemoryOfEventStreams(t *testing.T) {
	t.Parallel()
	const streams = 500
	p := up(t, t.TempDir())
	p.want(201, "POST", "/v1/logs/small/messages", "hello", "Prefer", "wait=30")
	before := p.memory()
	var open []net.Conn
	for i := range streams {
		path := fmt.Sprintf("/v1/logs/followed-%d/events?after=0", i)
		if i%2 == 0 {
			path = "/v1/logs/small/events" // where it begins is read from the store
		}
		open = append(open, openStream(t, p.api, path))
	}
	limit := func() int64 { return int64(p.metric("go_gc_gomemlimit_bytes")) }
	if got, want := limit(), int64(memoryLimit+512*connectionBytes); got != want {
		t.Errorf("with %d streams the limit is %d; want %d", streams, got, want)
	}
	each := (p.memory() - before) / streams
	t.Logf("each stream takes %d bytes", each)
	most := int64(connectionBytes)
	if resident.Factor > 1 { // frames are larger with the race detector
		most *= 2
	}
	if each > most {
		t.Errorf("the limit has only %d bytes for it", most)
	}
	for _, c := range open {
		_ = c.Close()
	}
	p.await("has the limit of a few connections again", func() bool { return limit() <= limitFor(1) })
}

// openStream opens an event stream and reads its beginning.
func openStream(t *testing.T, api, path string) net.Conn {
	t.Helper()
	address, _ := url.Parse(api)
	c, err := net.Dial("tcp", address.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: "+address.Host+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(c)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(line, "id: ") {
			return c
		}
	}
}

// memory returns the bytes that the process has on its heap and its stacks after a collection.
func (p *program) memory() int64 {
	for range 2 {
		p.want(200, "GET", "/debug/pprof/heap?gc=1", "")
	}
	return int64(p.metric("go_memstats_alloc_bytes") + p.metric("go_memstats_stack_inuse_bytes"))
}

// metric returns the value of a metric without labels.
func (p *program) metric(name string) float64 {
	p.t.Helper()
	_, rest, _ := strings.Cut(string(p.want(200, "GET", "/metrics", "").body), "\n"+name+" ")
	text, _, _ := strings.Cut(rest, "\n")
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		p.t.Fatalf("the metric %s: %v", name, err)
	}
	return value
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
