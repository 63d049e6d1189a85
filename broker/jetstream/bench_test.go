package jetstream

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkPublish includes the fsync.
func BenchmarkPublish(b *testing.B) {
	for _, size := range []int{200, 200_000} {
		b.Run(fmt.Sprintf("%d bytes", size), func(b *testing.B) {
			q := embed(b, EmbedConfig{Dir: b.TempDir()})
			publish(b, q, 1, 1, 1, size)
			batch := single(1, 1, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := q.Publish(b.Context(), 0, batch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkReceive reads a log that is there already. One operation is one batch.
func BenchmarkReceive(b *testing.B) {
	const batches = 1000
	for _, size := range []int{200, 200_000} {
		b.Run(fmt.Sprintf("%d bytes", size), func(b *testing.B) {
			q := embed(b, EmbedConfig{Dir: b.TempDir()})
			publish(b, q, 1, 1, batches, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			r := open(b, q, "")
			left := batches
			for n := 0; b.Loop(); n-- {
				if left == 0 {
					b.StopTimer()
					r.Close()
					r, left = open(b, q, ""), batches
					b.StartTimer()
				}
				if n == 0 {
					got, err := r.Receive(b.Context(), 100)
					if err != nil {
						b.Fatal(err)
					}
					n = len(got)
				}
				left--
			}
		})
	}
}

// BenchmarkLatency is the time between the confirmation of a batch and its delivery.
func BenchmarkLatency(b *testing.B) {
	q := embed(b, EmbedConfig{Dir: b.TempDir()})
	publish(b, q, 1, 1, 1, 200)
	r := open(b, q, "")
	receive(b, r, 1)
	arrived := make(chan time.Time)
	go func() {
		for {
			if _, err := r.Receive(b.Context(), 1); err != nil {
				close(arrived)
				return
			}
			arrived <- time.Now()
		}
	}()
	var total time.Duration
	for b.Loop() {
		if err := q.Publish(b.Context(), 0, single(1, 1, 200)); err != nil {
			b.Fatal(err)
		}
		confirmed := time.Now()
		total += max(0, (<-arrived).Sub(confirmed))
	}
	b.ReportMetric(float64(total.Microseconds())/float64(b.N), "µs/delivery")
	r.Close()
	<-arrived
}

func BenchmarkBacklog(b *testing.B) {
	q := embed(b, EmbedConfig{Dir: b.TempDir()})
	for by := range byte(20) {
		publish(b, q, by, 1, 1, 200)
	}
	p := persisted("", nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := q.Backlog(b.Context(), 0, p); err != nil {
			b.Fatal(err)
		}
	}
}
