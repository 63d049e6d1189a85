package ledger

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/drainmark/drainmark"
)

var deployment = drainmark.Deployment{ID: drainmark.DeploymentID{7}, Partitions: 3}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func create(t *testing.T, dir string, producer drainmark.ProducerID) *Ledger {
	t.Helper()
	l, err := Create(dir, deployment, producer, quiet())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// files returns the names of what is in a directory.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		names = append(names, f.Name())
	}
	return names
}

func TestTheNextProcessReadsWhatWasNoted(t *testing.T) {
	t.Parallel()
	for _, dies := range []bool{true, false} {
		dir := filepath.Join(t.TempDir(), "ledger")
		producer := drainmark.NewProducerID()
		l := create(t, dir, producer)
		l.Confirmed(0, 3)
		l.Promised(2, 9)
		l.Promised(2, 8)
		l.Confirmed(2, 7)
		l.Confirmed(0, 1<<63)
		if !dies {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		all, err := Read(dir, deployment)
		if err != nil || len(all) != 1 || all[0].Producer != producer ||
			!slices.Equal(all[0].Entries, []Entry{{Confirmed: 1 << 63}, {}, {Confirmed: 7, Promised: 9}}) {
			t.Fatalf("the next process reads %+v, %v", all, err)
		}
		if err := all[0].Settled(); err != nil {
			t.Fatal(err)
		}
		if left := files(t, dir); len(left) != 0 {
			t.Errorf("%v are left when all is settled", left)
		}
	}
}

func TestLedgersThatSayNothingGo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := create(t, dir, drainmark.ProducerID{1}).Close(); err != nil {
		t.Fatal(err)
	}
	create(t, dir, drainmark.ProducerID{2}).Promised(1, 5) // nobody was told that anything was stored
	other := deployment
	other.ID[0]++
	elsewhere, err := Create(dir, other, drainmark.ProducerID{3}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	elsewhere.Confirmed(0, 1)
	if all, err := Read(dir, deployment); len(all) != 0 || err != nil {
		t.Errorf("there are %+v, %v", all, err)
	}
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("%v are left", left)
	}
	if all, err := Read(filepath.Join(dir, "nowhere"), deployment); len(all) != 0 || err != nil {
		t.Errorf("of a directory that is not there: %+v, %v", all, err)
	}
}

// Each byte of the file is damaged in turn: it is told, or says the same as before, and the other partitions are read.
func TestADamagedLedgerIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	producer := drainmark.ProducerID{1}
	l := create(t, dir, producer)
	want := []Entry{{Confirmed: 4}, {Confirmed: 5, Promised: 6}, {Confirmed: 7}}
	for partition, e := range want {
		l.Confirmed(partition, e.Confirmed)
		l.Promised(partition, e.Promised)
	}
	whole, err := os.ReadFile(l.name)
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(whole) + 1 {
		damaged := slices.Clone(whole)
		if i < len(whole) {
			damaged[i] ^= 1
		} else {
			damaged = damaged[:len(damaged)-1]
		}
		if err := os.WriteFile(l.name, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		all, err := Read(dir, deployment)
		if !errors.Is(err, errDamaged) {
			t.Fatalf("with byte %d damaged: %+v, %v", i, all, err)
		}
		inSlot := (i - headerSize) / slotSize
		for partition, e := range want {
			if i < headerSize {
				continue
			}
			if partition == min(inSlot, len(want)-1) {
				e = Entry{}
			}
			if len(all) != 1 || all[0].Entries[partition] != e {
				t.Fatalf("with byte %d damaged: %+v", i, all)
			}
		}
	}
}

func TestWhatCannotBeMadeIsAnError(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := Create(file, deployment, drainmark.ProducerID{1}, quiet()); err == nil {
		t.Errorf("in a file's place: %v", l)
	}
	if _, err := Read(file, deployment); err == nil {
		t.Error("a file was read as a directory")
	}
}

func TestNoLedgerRemembersNothing(t *testing.T) {
	t.Parallel()
	var l *Ledger
	l.Confirmed(0, 1)
	l.Promised(0, 1)
	l.Run(context.Background())
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func BenchmarkConfirmed(b *testing.B) {
	l, err := Create(b.TempDir(), deployment, drainmark.ProducerID{1}, quiet())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := range b.N {
		l.Confirmed(1, uint64(i))
	}
}
