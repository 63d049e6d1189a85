package verify

import (
	"io"
	"testing"
)

// BenchmarkRun measures whole runs against a fake in the same process: how fast the client itself can be at least.
func BenchmarkRun(b *testing.B) {
	for name, batch := range map[string]int{"singles": 1, "batches of 100": 100} {
		b.Run(name, func(b *testing.B) {
			f := &fake{lag: 100}
			config := Config{URL: startFake(b, f), Messages: max(b.N, 1000), Batch: batch, Out: io.Discard}
			b.ReportAllocs()
			b.ResetTimer()
			r, err := Run(b.Context(), config)
			if err != nil || r.Verdict != Held {
				b.Fatalf("the verdict is %s, error %v", r.Verdict, err)
			}
			b.ReportMetric(r.Figures.AppendsPerSecond, "appends/s")
			b.ReportMetric(r.Figures.MessagesReadPerSec, "read/s")
		})
	}
}

// BenchmarkCheck judges a history of a million messages.
func BenchmarkCheck(b *testing.B) {
	h := &history{clients: 16, appends: make([]appendCall, 1_000_000), cleared: &clearCall{before: 1, last: 2}, final: true}
	order := make([]message, len(h.appends))
	for i := range h.appends {
		order[i] = message(i)
		h.appends[i] = appendCall{sent: 1, answered: 2, outcome: done}
	}
	h.stand(order)
	h.barriers = []barrierCall{{asked: 3, count: 1_000_000}}
	h.readBacks = []readBack{{message: 0, last: 3, found: 3}}
	b.ReportAllocs()
	for b.Loop() {
		for _, p := range h.check() {
			if p.State != PromiseHeld {
				b.Fatalf("%+v", p)
			}
		}
	}
}
