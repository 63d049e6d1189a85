package kafka

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/test/servers"
)

var remadeCases = []serverCase{
	{"a topic that was deleted is made again, and what is gone is told", remade},
	{"a topic that was made again keeps what it has got since, whatever is acknowledged of the old one", remadeIsNotPurged},
}

func remade(t *testing.T, server *servers.Kafka) {
	b := opened(t, server, Config{})
	publish(t, b, 1, 5)
	old := receiverOf(t, b, "")
	read := expect(t, old, 1, 5)[2].Cursor
	deleteTopic(t, b)
	eventually(t, "publishing", func() error { return b.Publish(t.Context(), 0, batchOf(6, 10)) })
	publish(t, b, 7, 12) // so that it goes further than before
	eventually(t, "the old receiver's end", func() error {
		got, err := old.Receive(t.Context(), 1)
		if err == nil {
			t.Fatalf("it received %v", got[0].Span())
		}
		return nil
	})
	r := receiverOf(t, b, read)
	lost := receive(t, r, 1)[0]
	if !strings.Contains(lost.Lost, "made anew") {
		t.Fatalf("first comes %v (%q), want what is lost", lost.Span(), lost.Lost)
	}
	expect(t, r, 6, 12)
	expect(t, receiverOf(t, b, lost.Cursor), 6, 12) // it is told once
	backlog, err := b.Backlog(t.Context(), 0, drainmark.Progress{Cursor: read})
	if err != nil || backlog.Pending.Exact || backlog.Ready.Records != 7 {
		t.Errorf("the backlog behind a cursor of the old topic is %+v (%v)", backlog, err)
	}
}

func remadeIsNotPurged(t *testing.T, server *servers.Kafka) {
	b := opened(t, server, Config{ReplayWindow: 1})
	publish(t, b, 1, 5)
	r := receiverOf(t, b, "")
	last := expect(t, r, 1, 5)[4]
	deleteTopic(t, b)
	other := reopened(t, b.config)
	eventually(t, "publishing", func() error { return other.Publish(t.Context(), 0, batchOf(1, 10)) })
	publish(t, other, 2, 5)
	if err := r.Ack(t.Context(), last); err != nil {
		t.Fatalf("acknowledging: %v", err)
	}
	eventually(t, "looking", func() error { return b.look(t.Context()) })
	expect(t, receiverOf(t, other, ""), 1, 5)
}

// truncated cuts the file of a partition off while the server is down, as a power failure does. The cursor is then behind
// what is left, until the partition has grown past it again.
func truncated(t *testing.T, server *servers.Kafka) {
	b := opened(t, server, Config{})
	publish(t, b, 1, 5)
	all := expect(t, receiverOf(t, b, ""), 1, 5)
	server.Kill()
	cut(t, server, b.partitions[0].log())
	server.Start()
	b = reopened(t, b.config)
	for grown := range 2 {
		r := receiverOf(t, b, all[4].Cursor)
		lost := receive(t, r, 1)[0]
		if !strings.Contains(lost.Lost, "lost its end") {
			t.Fatalf("first comes %v (%q), want what is lost", lost.Span(), lost.Lost)
		}
		if first := receive(t, r, 1)[0]; first.First != 1 {
			t.Fatalf("then comes %v, want what is left", first.Span())
		}
		if backlog, err := b.Backlog(t.Context(), 0, drainmark.Progress{Cursor: all[4].Cursor}); err != nil || backlog.Pending.Exact {
			t.Fatalf("the backlog is %+v (%v)", backlog, err)
		}
		if grown == 0 {
			publish(t, b, 6, 9)
		}
	}
	r := receiverOf(t, b, all[0].Cursor) // what is left is what it was
	if d := receive(t, r, 1)[0]; d.Lost != "" || d.First != 2 && d.First != 6 {
		t.Errorf("behind the first batch comes %v (%q)", d.Span(), d.Lost)
	}
}

// cut takes the last quarter off the newest file of a partition.
func cut(t *testing.T, server *servers.Kafka, partition string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(server.StoreDir, partition, "*.log"))
	if err == nil && len(files) != 1 {
		err = fmt.Errorf("there are %d files", len(files))
	}
	var info os.FileInfo
	if err == nil {
		info, err = os.Stat(files[0])
	}
	if err == nil {
		err = os.Truncate(files[0], info.Size()*3/4)
	}
	if err != nil {
		t.Fatalf("cutting the file of %s off: %v", partition, err)
	}
}
