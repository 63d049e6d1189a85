package check

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/drainmark/drainmark/verify/history"
)

// BenchmarkJudge judges a million messages of 16 clients, with 1,000 barriers and 20,000 reads with receipts.
func BenchmarkJudge(b *testing.B) {
	const messages, clients = 1_000_000, 16
	s := newStory(b)
	s.run.Clients = clients
	var seen [clients]int
	names := make([]byte, 0, 16_000)
	var pages []string
	for i := range messages {
		client := i % clients
		seen[client]++
		name := fmt.Sprintf("%d.%d", client, seen[client])
		a := s.append(done, 0, 0, name)
		a.Start, a.End = time.Duration(i)*1000, time.Duration(i+clients)*1000-1
		names = append(append(names, name...), ' ')
		if i%1000 == 999 {
			pages, names = append(pages, string(names)), names[:0]
			barrier := s.barrier(0, 0)
			barrier.Start, barrier.End = a.End+1, a.End+1
			r := s.behind(barrier, 0, 0, highest, uint64(i+1), "")
			r.Start, r.End = a.End+1, a.End+2
		}
		if i%50 == 49 {
			r := s.page(0, 0, highest, uint64(i+1), "")
			r.Start, r.End, r.Holds = a.End+1, a.End+2, name
		}
	}
	for final := 1; final <= 2; final++ {
		for i, page := range pages {
			r := s.final(final, uint64(i*1000+1), page)
			r.After, r.Last, r.Total = r.From-1, messages, messages
		}
	}
	s.end()
	file := s.told()
	s = nil
	for b.Loop() {
		h, err := history.Load(bytes.NewReader(file))
		if err != nil {
			b.Fatal(err)
		}
		begun := time.Now()
		if r := Judge(h, Options{}); r.Verdict != Held {
			b.Fatalf("%s: %s %+v", r.Verdict, r.Reason, r.Promises)
		}
		b.ReportMetric(time.Since(begun).Seconds(), "judge-s/op")
		var memory runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&memory)
		b.ReportMetric(float64(int(memory.HeapAlloc)-len(file))/messages, "heap-bytes/message")
		runtime.KeepAlive(h)
	}
	b.ReportMetric(float64(len(file))/messages, "file-bytes/message")
}
