package planted

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/store/redis"
	"github.com/drainmark/drainmark/store/sqlite"
	"github.com/drainmark/drainmark/test/servers"
)

// replaced lets a consumer commit what it holds although it was replaced, after its successor has committed the same.
func replaced(t *testing.T, first, second store.Store, reader store.Reader) string {
	t.Helper()
	ctx := t.Context()
	commit := store.Commit{
		Token: 1, Now: time.Now(),
		Operations: []store.Operation{{
			Kind: store.Append, Mark: drainmark.Mark{Producer: drainmark.ProducerID{1}, Sequence: 1},
			Record: &drainmark.Record{Kind: drainmark.Append, Log: log, Body: []byte("a"), AcceptedAt: time.Now()},
		}},
		Producers: map[drainmark.ProducerID]drainmark.ProducerProgress{
			{1}: {Done: drainmark.Ranges{}.Add(1, 1), LastAt: time.Hour},
		},
	}
	if _, err := first.Claim(ctx, store.Claim{Owner: "first", Token: 1}, time.Minute); err != nil {
		t.Fatal(err)
	}
	// The lease is given up in its name, as it would expire while it is paused.
	if err := second.Release(ctx, "first", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := second.Claim(ctx, store.Claim{Owner: "second", Token: 2}, time.Minute); err != nil {
		t.Fatal(err)
	}
	successors := commit
	successors.Token = 2
	if _, err := store.NewHolder(second, 1).Commit(ctx, successors); err != nil {
		t.Fatal(err)
	}
	if _, err := store.NewHolder(first, 1).Commit(ctx, commit); err != nil && !errors.Is(err, store.ErrFenced) {
		t.Fatal(err)
	}
	page, err := reader.Messages(ctx, log, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(page.Messages); n != 1 {
		return fmt.Sprintf("one record is in the log %d times", n)
	}
	return ""
}

// The stores on disk let themselves be deceived in the same way.
func TestSkippedOwnerCheckOnRealStores(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "store.db")
		master, err := sqlite.Open(t.Context(), path, sqlite.Options{})
		deceived(t, master, err, func() (store.Reader, error) { return sqlite.OpenReader(t.Context(), path, sqlite.Options{}) })
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		server := servers.StartRedis(t, servers.RedisOptions{})
		master, err := redis.Open(t.Context(), server.URL(), redis.Options{})
		deceived(t, master, err, func() (store.Reader, error) { return redis.OpenReader(t.Context(), server.URL(), redis.Options{}) })
	})
}

func deceived(t *testing.T, master store.Store, err error, open func() (store.Reader, error)) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if _, err := master.Init(t.Context(), drainmark.Deployment{ID: drainmark.DeploymentID{1}, Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	reader, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if harm := replaced(t, skipOwnerCheck(master), master, reader); harm == "" {
		t.Error("no harm was done")
	}
}
