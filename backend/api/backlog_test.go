package api

import (
	"context"
	"math"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/store"
)

func failBacklog(err error) func(context.Context) ([]backend.PartitionBacklog, error) {
	return func(context.Context) ([]backend.PartitionBacklog, error) { return nil, err }
}

// partition makes a partition with so much pending. Ready and in flight are unknown if they are negative.
func partition(number int, pending, ready, inFlight int, exact bool) backend.PartitionBacklog {
	count := func(n int) *broker.Count {
		if n < 0 {
			return nil
		}
		return &broker.Count{Records: uint64(n), Exact: exact}
	}
	return backend.PartitionBacklog{
		Partition: number,
		Backlog:   broker.Backlog{Pending: *count(pending), Ready: count(ready), InFlight: count(inFlight)},
	}
}

func getBacklog(t *testing.T, partitions ...backend.PartitionBacklog) map[string]any {
	t.Helper()
	s := serve(t, &fake{backlog: func(context.Context) ([]backend.PartitionBacklog, error) { return partitions, nil }})
	return s.do("GET", "/v1/backlog", "").want(t, 200)
}

func records(n float64, exact bool) map[string]any {
	return map[string]any{"records": n, "exact": exact}
}

func TestBacklog(t *testing.T) {
	t.Parallel()
	t.Run("a partition has all that is known of it", func(t *testing.T) {
		t.Parallel()
		p := partition(3, 5, 2, 3, true)
		p.Claim = &store.Claim{Partition: 3, Owner: "consumer-1", Token: 0xabc}
		p.Progress = drainmark.Progress{
			Partition: 3, Version: drainmark.Version{Token: 0xabc, Revision: 17}, Cursor: "c-9",
			Producers: map[drainmark.ProducerID]drainmark.ProducerProgress{
				producer: {Done: drainmark.Ranges{{First: 1, Last: 10}, {First: 13, Last: 20}}},
				{1}:      {Done: drainmark.Ranges{{First: 1, Last: 5}}},
			},
		}
		p.Missing = p.Progress.Missing()
		p.Stalled = "nobody knows"
		got := getBacklog(t, p)["partitions"].([]any)[0]
		want := map[string]any{
			"partition": 3.0, "pending": records(5, true), "ready": records(2, true), "in_flight": records(3, true),
			"oldest_pending_seconds": nil, "owner": "consumer-1", "epoch": "0000000000000abc", "revision": 17.0, "cursor": "c-9",
			"producers": 2.0, "persisted": 23.0, "stalled": "nobody knows",
			"missing": []any{map[string]any{"producer": producer.String(), "first": 11.0, "last": 12.0}},
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
	})
	t.Run("a partition of which nothing is known says so", func(t *testing.T) {
		t.Parallel()
		got := getBacklog(t, partition(0, 0, -1, -1, false))["partitions"].([]any)[0].(map[string]any)
		for _, name := range []string{"ready", "in_flight", "oldest_pending_seconds", "owner", "stalled"} {
			if got[name] != nil {
				t.Errorf("%s is %v, want null", name, got[name])
			}
		}
		if missing, ok := got["missing"].([]any); !ok || len(missing) != 0 {
			t.Errorf("missing is %v", got["missing"])
		}
	})
}

func TestBacklogSaysWhoAnswers(t *testing.T) {
	t.Parallel()
	p := partition(0, 5, 2, 3, true)
	p.Backend = producer
	if got := getBacklog(t, p)["backend"]; got != producer.String() {
		t.Errorf("it is %v, want %v", got, producer)
	}
}

func TestBacklogTotal(t *testing.T) {
	t.Parallel()
	t.Run("the total is the sum, and exact if all are", func(t *testing.T) {
		t.Parallel()
		v := getBacklog(t, partition(0, 5, 2, 3, true), partition(1, 7, 4, 3, true))
		if !reflect.DeepEqual([]any{v["pending"], v["ready"], v["in_flight"]}, []any{records(12, true), records(6, true), records(6, true)}) {
			t.Errorf("it is %v", v)
		}
	})
	t.Run("one partition that is not exact makes the total a lower bound", func(t *testing.T) {
		t.Parallel()
		v := getBacklog(t, partition(0, 5, 2, 3, true), partition(1, 7, 4, 3, false), partition(2, 1, 1, 0, true))
		if !reflect.DeepEqual([]any{v["pending"], v["ready"], v["in_flight"]}, []any{records(13, false), records(7, false), records(6, false)}) {
			t.Errorf("it is %v", v)
		}
	})
	t.Run("one partition that cannot say makes the total unknown", func(t *testing.T) {
		t.Parallel()
		v := getBacklog(t, partition(0, 5, -1, 3, true), partition(1, 7, 4, -1, true))
		if !reflect.DeepEqual([]any{v["pending"], v["ready"], v["in_flight"]}, []any{records(12, true), nil, nil}) {
			t.Errorf("it is %v", v)
		}
	})
	t.Run("the oldest of all is the oldest of the partitions", func(t *testing.T) {
		t.Parallel()
		young, old, none, ahead := partition(0, 1, 1, 0, true), partition(1, 1, 1, 0, true), partition(2, 0, 0, 0, true), partition(3, 1, 1, 0, true)
		now := time.Now()
		young.OldestAt, old.OldestAt, ahead.OldestAt = now.Add(-time.Minute), now.Add(-time.Hour), now.Add(time.Hour)
		young.AsOf, old.AsOf, ahead.AsOf = now, now, now
		v := getBacklog(t, young, old, none, ahead)
		age := func(v any) float64 { return v.(map[string]any)["oldest_pending_seconds"].(float64) }
		partitions := v["partitions"].([]any)
		if math.Abs(age(v)-3600) > 30 || math.Abs(age(partitions[0])-60) > 30 || age(partitions[1]) != age(v) || age(partitions[3]) != 0 {
			t.Errorf("they are %v", v)
		}
	})
}

// Whoever asks while the broker is asked already gets the same partitions: one's answer must not be in another's.
func TestBacklogOfSeveralWhoAsk(t *testing.T) {
	t.Parallel()
	p := partition(0, 1, 1, 0, true)
	p.Stalled, p.Cause = "the store refuses a record", backend.Cause{Text: "what it said"}
	shared := []backend.PartitionBacklog{p}
	s := serve(t, &fake{backlog: func(context.Context) ([]backend.PartitionBacklog, error) { return shared, nil }})
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			got := s.do("GET", "/v1/backlog", "").want(t, 200)["partitions"].([]any)[0].(map[string]any)["stalled"]
			if want := "the store refuses a record: what it said"; got != want {
				t.Errorf("stalled is %q, not %q", got, want)
			}
		})
	}
	asking.Wait()
}
