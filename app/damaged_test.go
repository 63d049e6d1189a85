package app

import (
	"bytes"
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// changeDatabase runs statements on a SQLite file, as somebody else does.
func changeDatabase(t *testing.T, path, script string) {
	t.Helper()
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(context.WithoutCancel(t.Context()), script); err != nil {
		t.Fatalf("%s: %v", script, err)
	}
}

// overwrite destroys a file from an offset on.
func overwrite(t *testing.T, path string, from int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() <= from {
		t.Fatalf("%d bytes, %v", info.Size(), err)
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, int(info.Size()-from)), from); err != nil {
		t.Fatal(err)
	}
}

// The pages of a database file are overwritten while it is in use. Reads are an error of the deployment, and so say the
// status, the log (in few lines) and the metrics. Accepted records are not lost, and nobody is told that they are
// persisted.
func TestADatabaseThatIsDamagedWhileItIsInUse(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	path := filepath.Join(data, "store.db")
	p := up(t, data, "--partitions", "1", "--stall-after", "1s")
	for range 20 {
		p.want(202, "POST", "/v1/logs/log/messages", strings.Repeat(`{"body":"`+strings.Repeat("x", 200)+"\"}\n", 100), "Content-Type", "application/x-ndjson")
	}
	p.barrier()
	changeDatabase(t, path, "VACUUM INTO '"+path+".copy'")
	changeDatabase(t, path, "PRAGMA wal_checkpoint(TRUNCATE)")
	overwrite(t, path, 60*4096)

	for range 20 {
		problem := string(p.want(500, "GET", "/v1/logs/log/messages?limit=1000", "").body)
		if !strings.Contains(problem, "misconfigured") || strings.Contains(problem, data) {
			t.Fatalf("the problem is %s", problem)
		}
	}
	var status struct {
		Reads struct {
			Working bool
			Reason  string
		}
	}
	p.want(200, "GET", "/v1/status", "").decode(t, &status)
	if status.Reads.Working || !strings.Contains(status.Reads.Reason, "repair") {
		t.Errorf("the status says of reads %+v", status.Reads)
	}
	p.isReady() // it accepts
	metrics := func() string { return string(p.want(200, "GET", "/metrics", "").body) }
	if all := metrics(); !strings.Contains(all, "drainmark_backend_reads_broken 1\n") {
		t.Error("the metrics do not say that reads are broken")
	}
	receipt := p.want(202, "POST", "/v1/logs/log/messages", "kept").header.Get("Drainmark-Receipt")
	p.find(`level=ERROR msg="the store cannot be used: somebody has to repair what the error names" part=consumer .*(store.db is damaged)`)
	p.await("counts what the consumer cannot do", func() bool { return strings.Contains(metrics(), "drainmark_consumer_store_broken 1\n") })
	if said := string(p.want(200, "GET", "/v1/receipts/"+receipt, "", "Prefer", "wait=3").body); strings.Contains(said, `"state":"persisted"`) {
		t.Errorf("the receipt says %s", said)
	}
	const broken = `level=ERROR msg="the store cannot be read: somebody has to repair what the error names" part=backend`
	if said := p.said(); strings.Count(said, broken) == 0 || strings.Count(said, "level=ERROR") > 10 {
		t.Errorf("it says %d errors", strings.Count(said, "level=ERROR"))
	}

	if err := os.Rename(path+".copy", path); err != nil {
		t.Fatal(err)
	}
	p.want(200, "GET", "/v1/receipts/"+receipt, "", "Prefer", "wait=30")
	p.barrier()
	if all := p.readAll("log"); all.Count != 2001 || len(all.Messages) != 2001 || all.Messages[2000].Body != "kept" {
		t.Errorf("when a copy was brought back, there are %d messages", all.Count)
	}
	p.await("has no more damage", func() bool {
		all := metrics()
		return strings.Contains(all, "drainmark_backend_reads_broken 0\n") && strings.Contains(all, "drainmark_consumer_store_broken 0\n")
	})
	p.want(200, "GET", "/v1/status", "").decode(t, &status)
	if !status.Reads.Working {
		t.Errorf("the status says of reads %+v", status.Reads)
	}
}
