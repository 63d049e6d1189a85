package storetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

// BenchmarkTrim fills a log, of one message, up to a position by fill, which does so in the tables, and measures what its trim costs those who append meanwhile, to the same log and to another one:
// commits of one message to each, 100 a second, for ten seconds before, while what was trimmed is swept as a consumer does
// it (for a minute at most), and for ten seconds after. TRIMMED in the environment says how many messages there are, 100,000 if
// nothing does.
func BenchmarkTrim(b *testing.B, s store.Store, fill func(log string, through int)) {
	b.Helper()
	messages, err := strconv.Atoi(os.Getenv("TRIMMED"))
	if err != nil {
		messages = 100_000
	}
	ctx := b.Context()
	_, made := s.Init(ctx, drainmark.Deployment{ID: drainmark.DeploymentID{7}, Partitions: 1})
	progress, claimed := s.Claim(ctx, store.Claim{Owner: "bench", Token: uint64(time.Now().UnixNano())}, 24*time.Hour)
	if err := errors.Join(made, claimed); err != nil {
		b.Fatal(err)
	}
	c := &committer{store: s, holder: store.NewHolder(s, 1), progress: progress, producer: drainmark.NewProducerID()}
	if err := c.commit(ctx, appends("large", 1)); err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	fill("large", messages)
	c.holder = store.NewHolder(s, 1) // which knows nothing of before
	b.Logf("%d messages were appended in %s", messages, time.Since(began).Round(time.Second))
	t := &trimming{B: b, committer: c}
	t.phase("before", time.After(phaseLasts))
	trim := store.Operation{Kind: store.Trim, Position: uint64(messages), Record: &drainmark.Record{Kind: drainmark.Trim, Log: "large"}}
	began = time.Now()
	if err := c.commit(ctx, []store.Operation{trim}); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(time.Since(began).Microseconds()), "trim-us")
	swept := t.sweep()
	began = time.Now()
	t.phase("during", swept)
	b.ReportMetric(time.Since(began).Seconds(), "sweep-s")
	t.phase("after", time.After(phaseLasts))
}

// sweep sweeps as a consumer does, and tells when all is swept, or a minute is over.
func (t *trimming) sweep() <-chan time.Time {
	swept := make(chan time.Time)
	go func() {
		defer close(swept)
		end, steps := time.Now().Add(sweepLasts), 0
		for more := true; more && time.Now().Before(end); steps++ {
			var err error
			step := time.Now()
			if more, err = t.store.Sweep(t.Context(), store.Sweep{}); err != nil {
				t.Error(err)
				return
			}
			time.Sleep(time.Since(step)) // as a consumer rests
		}
		t.ReportMetric(float64(steps), "sweeps")
	}()
	return swept
}

const (
	phaseLasts = 10 * time.Second
	sweepLasts = time.Minute
	appendRate = 100 // a second
)

// appends are so many appends of a body of 100 bytes.
func appends(log string, n int) []store.Operation {
	operations := make([]store.Operation, n)
	for i := range operations {
		operations[i] = store.Operation{Kind: store.Append, Record: &drainmark.Record{
			Kind: drainmark.Append, Log: log, ContentType: "text/plain", Body: fmt.Appendf(nil, "%0100d", i), AcceptedAt: time.Now(),
		}}
	}
	return operations
}

type trimming struct {
	*testing.B
	*committer
}

// phase appends at a steady rate until the end, and reports how long commits took, counted from when each was due.
func (t *trimming) phase(name string, end <-chan time.Time) {
	t.Helper()
	tick := time.NewTicker(time.Second / appendRate)
	defer tick.Stop()
	var took []time.Duration
	for ended := false; !ended; {
		select {
		case due := <-tick.C:
			if err := t.commit(context.Background(), append(appends("large", 1), appends("other", 1)...)); err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(due))
		case <-end:
			ended = true
		}
	}
	if slices.Sort(took); len(took) > 0 {
		t.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us-"+name)
		t.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us-"+name)
	}
}
