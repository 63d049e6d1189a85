package frontend

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// benchConnections is how many clients post at the same time.
const benchConnections = 64

// post makes n requests over the connections of a client, and returns how many there were in a second.
func post(b *testing.B, client *http.Client, url string, n int) float64 {
	b.Helper()
	body := strings.Repeat("x", 200)
	var running sync.WaitGroup
	start := time.Now()
	for range benchConnections {
		running.Go(func() {
			for range n / benchConnections {
				response, err := client.Post(url+messages, "text/plain", strings.NewReader(body))
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
				if response.StatusCode != http.StatusAccepted {
					b.Error(response.Status)
					return
				}
			}
		})
	}
	running.Wait()
	return float64(n) / time.Since(start).Seconds()
}

// BenchmarkForward compares single POSTs through the frontend with the same ones to a backend that does nothing but
// answer, all in one process: the forward's whole cost, and the worst that it can look.
func BenchmarkForward(b *testing.B) {
	receipt := strings.Repeat("r", 70)
	backend := startBackend(b, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Drainmark-Receipt", receipt)
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"receipt":"`+receipt+`","count":1,"state":"accepted"}`)
	})
	s := startSite(b, Config{}, backend.URL)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: benchConnections, DisableCompression: true}}
	defer client.CloseIdleConnections()
	post(b, client, backend.URL, 1<<12)
	post(b, client, s.URL, 1<<12)
	b.ReportAllocs()
	var direct, forwarded float64
	for b.Loop() {
		direct += post(b, client, backend.URL, 1<<14)
		forwarded += post(b, client, s.URL, 1<<14)
	}
	b.ReportMetric(direct/float64(b.N), "direct/s")
	b.ReportMetric(forwarded/float64(b.N), "forwarded/s")
	b.ReportMetric(forwarded/direct, "ratio")
}
