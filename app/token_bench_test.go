package app

import (
	"net/http"
	"path/filepath"
	"testing"
	"time"
)

// bearer sends a token with each request.
type bearer struct {
	http.RoundTripper
	token string
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.RoundTripper.RoundTrip(r)
}

// BenchmarkTokenOfAnAppend compares single appends with a token, its grants, limits and accounts, with those to a process
// that asks for none. The two take turns, a second each, so that what else the machine does falls on both.
func BenchmarkTokenOfAnAppend(b *testing.B) {
	token, entry := principal(b, "shop", `"append:*"`)
	path := filepath.Join(b.TempDir(), "access.yaml")
	writeAccess(b, path, entry)
	open, closed := up(b, filepath.Join(b.TempDir(), "data")), up(b, filepath.Join(b.TempDir(), "data"), "--access", path)
	with, without := benchClient(64), benchClient(64)
	with.Transport = bearer{with.Transport, token}
	const turns = 8
	for b.Loop() {
		var sum [2]float64
		for turn := range turns + 1 {
			none := posts(b, without, open.api+"/v1/logs/bench/messages", 64, time.Second)
			one := posts(b, with, closed.api+"/v1/logs/bench/messages", 64, time.Second)
			if turn > 0 { // the first warms up
				sum[0], sum[1] = sum[0]+none, sum[1]+one
			}
		}
		b.ReportMetric(sum[0]/turns, "open/s")
		b.ReportMetric(sum[1]/turns, "token/s")
		b.ReportMetric(sum[1]/sum[0], "ratio")
	}
}
