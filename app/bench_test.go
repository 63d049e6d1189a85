package app

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the bare driver, to compare with
)

// The benchmarks run the program as a process of its own, with everything that it does for durability, and the client
// in this process, on the same processors. Figures that depend on the machine are compared with others from the same
// run. docs/performance.md has results.

const bodySize = 200

func benchBody() string { return strings.Repeat("0123456789abcdef", bodySize/16+1)[:bodySize] }

// client keeps as many connections as there are workers.
func benchClient(workers int) *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers, DisableCompression: true}}
}

func send(b testing.TB, c *http.Client, method, url, contentType, prefer, body string) (int, []byte) {
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	if prefer != "" {
		request.Header.Set("Prefer", prefer)
	}
	response, err := c.Do(request)
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		b.Fatal(err)
	}
	return response.StatusCode, read
}

// upBench starts "up" for a benchmark.
func upBench(b *testing.B, data string) *program {
	b.Helper()
	return start(b, append([]string{"up", "--data", data}, free...)...)
}

// bareInserts measures how many rows a second the SQLite driver inserts in transactions of 500, with an fsync each.
func bareInserts(b *testing.B) float64 {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(b.TempDir(), "bare.db")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE TABLE messages (position INTEGER PRIMARY KEY, body BLOB, content_type TEXT, accepted INTEGER, persisted INTEGER)"); err != nil {
		b.Fatal(err)
	}
	body := []byte(benchBody())
	const batch, batches = 500, 200
	row := "(?,?,?,?,?)"
	insert := "INSERT INTO messages VALUES " + row + strings.Repeat(","+row, batch-1)
	arguments := make([]any, 0, 5*batch)
	start := time.Now()
	for n := range batches {
		arguments = arguments[:0]
		for i := range batch {
			arguments = append(arguments, n*batch+i+1, body, "text/plain", start.UnixMicro(), start.UnixMicro())
		}
		tx, err := db.Begin()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := tx.Exec(insert, arguments...); err != nil {
			b.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	return batch * batches / time.Since(start).Seconds()
}

// BenchmarkManyToVisible appends NDJSON requests of 1,000 messages from 4 clients until a barrier says that all are
// persisted and visible, and compares with the bare driver.
func BenchmarkManyToVisible(b *testing.B) {
	for b.Loop() {
		bare := bareInserts(b)
		p := upBench(b, b.TempDir())
		const clients, requests, lines = 4, 50, 1000
		body := strings.Repeat(`{"body":"`+benchBody()+`","content_type":"text/plain"}`+"\n", lines)
		c := benchClient(clients)
		start := time.Now()
		var running sync.WaitGroup
		for range clients {
			running.Go(func() {
				for range requests {
					if status, answer := send(b, c, "POST", p.api+"/v1/logs/bench/messages", "application/x-ndjson", "", body); status != 202 {
						b.Errorf("%d %s", status, answer)
						return
					}
				}
			})
		}
		running.Wait()
		accepted := time.Since(start)
		p.barrier()
		took := time.Since(start)
		total := float64(clients * requests * lines)
		b.ReportMetric(total/took.Seconds(), "visible/s")
		b.ReportMetric(total/accepted.Seconds(), "accepted/s")
		b.ReportMetric(bare, "bare-inserts/s")
		b.ReportMetric(total/took.Seconds()/bare, "ratio")
		p.kill()
	}
}

// posts sends single messages by a client over so many connections for a while, and returns the rate.
func posts(b *testing.B, c *http.Client, url string, connections int, d time.Duration) float64 {
	body := benchBody()
	var total atomic.Int64
	var running sync.WaitGroup
	start := time.Now()
	for range connections {
		running.Go(func() {
			for time.Since(start) < d {
				if status, answer := send(b, c, "POST", url, "text/plain", "", body); status/100 != 2 {
					b.Errorf("%d %s", status, answer)
					return
				}
				total.Add(1)
			}
		})
	}
	running.Wait()
	return float64(total.Load()) / time.Since(start).Seconds()
}

// BenchmarkSinglePosts compares single appends over 64 connections with an empty handler, which runs in a process of
// its own as well.
func BenchmarkSinglePosts(b *testing.B) {
	for b.Loop() {
		empty := emptyServer(b)
		p := upBench(b, b.TempDir())
		url, c := p.api+"/v1/logs/bench/messages", benchClient(64)
		posts(b, c, url, 64, time.Second) // warm
		posts(b, c, empty.api, 64, time.Second)
		nothing := posts(b, c, empty.api, 64, 4*time.Second)
		appends := posts(b, c, url, 64, 4*time.Second)
		b.ReportMetric(appends, "appends/s")
		b.ReportMetric(nothing, "empty/s")
		b.ReportMetric(appends/nothing, "ratio")
		p.kill()
		empty.kill()
	}
}

// serveEmpty is the process that emptyServer starts: a net/http server whose handler reads the body and says 202.
func serveEmpty() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusAccepted)
	}))
	fmt.Fprintf(os.Stderr, "serving the API\" url=%s/v1\n", server.URL)
	select {}
}

func emptyServer(b *testing.B) *program {
	return start(b, "empty")
}

// percentile sorts.
func percentile(d []time.Duration, p float64) float64 {
	slices.Sort(d)
	return float64(d[min(len(d)-1, int(float64(len(d))*p))].Microseconds()) / 1000
}

// BenchmarkLatency measures at 1,000 appends a second, open loop, and idle.
func BenchmarkLatency(b *testing.B) {
	for b.Loop() {
		p := upBench(b, b.TempDir())
		idle(b, p)
		atRate(b, p, 1000, 5*time.Second)
		p.kill()
	}
}

func idle(b *testing.B, p *program) {
	c := benchClient(1)
	var accepts, barriers []time.Duration
	for i := range 300 {
		start := time.Now()
		send(b, c, "POST", p.api+"/v1/logs/idle/messages", "text/plain", "", benchBody())
		if i >= 20 {
			accepts = append(accepts, time.Since(start))
		}
	}
	for range 100 {
		start := time.Now()
		send(b, c, "POST", p.api+"/v1/barriers", "", "wait=10", "")
		barriers = append(barriers, time.Since(start))
	}
	b.ReportMetric(percentile(accepts, 0.5), "idle-accept-p50-ms")
	b.ReportMetric(percentile(barriers, 0.5), "idle-barrier-p50-ms")
	b.ReportMetric(percentile(barriers, 0.99), "idle-barrier-p99-ms")
}

// atRate appends at a rate, whatever the answers take. Each body is the time at which it was due, so that a stall is
// measured and not hidden. A follower takes the time at which the event arrives.
func atRate(b *testing.B, p *program, rate int, d time.Duration) {
	const workers = 64
	c := benchClient(workers)
	token := time.Now()
	events := follow(b, p.api+"/v1/logs/rate/events?after=0", token, rate*int(d.Seconds()))
	due := make(chan time.Duration, rate)
	var mu sync.Mutex
	var accepts []time.Duration
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for at := range due {
				body := fmt.Sprintf("%-200d", at.Microseconds())
				send(b, c, "POST", p.api+"/v1/logs/rate/messages", "text/plain", "", body)
				took := time.Since(token) - at
				mu.Lock()
				accepts = append(accepts, took)
				mu.Unlock()
			}
		})
	}
	tick := time.NewTicker(time.Millisecond)
	for sent := 0; sent < rate*int(d.Seconds()); {
		<-tick.C
		for ; sent < rate*int(d.Seconds()) && time.Duration(sent)*time.Second/time.Duration(rate) <= time.Since(token); sent++ {
			due <- time.Duration(sent) * time.Second / time.Duration(rate)
		}
	}
	tick.Stop()
	close(due)
	running.Wait()
	seen := <-events
	b.ReportMetric(percentile(accepts, 0.5), "accept-p50-ms")
	b.ReportMetric(percentile(accepts, 0.99), "accept-p99-ms")
	b.ReportMetric(percentile(seen, 0.5), "event-p50-ms")
	b.ReportMetric(percentile(seen, 0.99), "event-p99-ms")
}

// follow reads n events, and gives how long after its body's time each arrived.
func follow(b *testing.B, url string, token time.Time, n int) <-chan []time.Duration {
	response, err := http.Get(url)
	if err != nil {
		b.Fatal(err)
	}
	result := make(chan []time.Duration, 1)
	go func() {
		defer response.Body.Close()
		var seen []time.Duration
		lines := bufio.NewScanner(response.Body)
		for len(seen) < n && lines.Scan() {
			_, rest, ok := bytes.Cut(lines.Bytes(), []byte(`"body":"`))
			if !ok {
				continue
			}
			micros, err := strconv.ParseInt(string(rest[:bytes.IndexByte(rest, ' ')]), 10, 64)
			if err != nil {
				break
			}
			seen = append(seen, time.Since(token)-time.Duration(micros)*time.Microsecond)
		}
		result <- seen
	}()
	return result
}

// BenchmarkLogOfAMillion compares appends and pages at 1,000,000 messages with those at 1,000.
func BenchmarkLogOfAMillion(b *testing.B) {
	for b.Loop() {
		p := upBench(b, b.TempDir())
		c := benchClient(4)
		url := p.api + "/v1/logs/big/messages"
		fill := func(messages int) {
			body := strings.Repeat(`{"body":"`+benchBody()+`"}`+"\n", 1000)
			for range messages / 1000 {
				send(b, c, "POST", url, "application/x-ndjson", "", body)
			}
			p.barrier()
		}
		measure := func(size int) (appended, paged float64) {
			var appends, pages []time.Duration
			for i := range 200 {
				start := time.Now()
				send(b, c, "POST", url, "text/plain", "wait=10", benchBody())
				appends = append(appends, time.Since(start))
				start = time.Now()
				send(b, c, "GET", fmt.Sprintf("%s?limit=100&after=%d", url, i*(size-200)/200), "", "", "")
				pages = append(pages, time.Since(start))
			}
			return percentile(appends, 0.5), percentile(pages, 0.5)
		}
		fill(1000)
		measure(1000)
		appendSmall, pageSmall := measure(1000)
		fill(1_000_000)
		appendBig, pageBig := measure(1_000_000)
		b.ReportMetric(appendBig/appendSmall, "append-ratio")
		b.ReportMetric(pageBig/pageSmall, "page-ratio")
		b.ReportMetric(appendBig, "append-ms")
		b.ReportMetric(pageBig, "page-ms")
		p.kill()
	}
}

// BenchmarkMemoryAndStart measures the memory of an idle process, with 1,000,000 messages waiting because the database
// is locked, and how long a start on that directory takes until it is ready.
func BenchmarkMemoryAndStart(b *testing.B) {
	for b.Loop() {
		data := b.TempDir()
		p := upBench(b, data)
		c := benchClient(1)
		send(b, c, "POST", p.api+"/v1/logs/bench/messages", "text/plain", "wait=10", "hello")
		b.ReportMetric(memory(b, p), "idle-MB")
		unlock := lock(b, filepath.Join(data, "store.db"))
		body := strings.Repeat(`{"body":"`+benchBody()+`"}`+"\n", 1000)
		for range 1000 {
			if status, answer := send(b, c, "POST", p.api+"/v1/logs/bench/messages", "application/x-ndjson", "", body); status != 202 {
				b.Fatalf("%d %s", status, answer)
			}
		}
		b.ReportMetric(memory(b, p), "waiting-MB")
		p.kill()
		unlock()
		start := time.Now()
		p = upBench(b, data)
		for {
			if status, _ := send(b, c, "POST", p.api+"/v1/logs/other/messages", "text/plain", "", "hello"); status == 202 {
				break
			}
		}
		b.ReportMetric(time.Since(start).Seconds(), "start-s")
		p.barrier()
		b.ReportMetric(time.Since(start).Seconds(), "drained-s")
		p.kill()
	}
}

// memory returns a process's resident memory in megabytes.
func memory(b *testing.B, p *program) float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kilobytes, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		b.Fatal(err)
	}
	return kilobytes / 1024
}

// lock takes the write lock of an SQLite database.
func lock(b testing.TB, path string) (unlock func()) {
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		b.Fatal(err)
	}
	conn, err := db.Conn(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	if _, err := conn.ExecContext(context.Background(), "BEGIN IMMEDIATE"); err != nil {
		b.Fatal(err)
	}
	return func() {
		_, _ = conn.ExecContext(context.Background(), "ROLLBACK")
		_ = conn.Close()
		_ = db.Close()
	}
}
