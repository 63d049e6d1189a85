// Package ledger remembers in a small file what the broker has confirmed to a backend, for the next process.
//
// A process that dies takes with it which records it had accepted. The queue shows that only as far as it is whole: if
// its end is cut off, nothing that is left tells so. The ledger does. It is a file for each producer, which has for
// each partition how far the producer's sequences are confirmed. It is written before anybody is told, and is not
// synced then: the death of a process loses nothing. It is synced once a second, so what the machine's power takes are
// the last moments: then the ledger says less than was confirmed, never more.
package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/internal/loglimit"
)

// Entry is how far a producer's sequences have come in one partition.
type Entry struct {
	Confirmed uint64 // 1 to Confirmed were confirmed by the broker
	Promised  uint64 // receipts may have been given out up to here although nothing was confirmed
}

// Ledger is one producer's. A nil Ledger remembers nothing. Its methods may be called concurrently.
type Ledger struct {
	name    string
	file    *os.File
	failing *loglimit.Limiter

	mu      sync.Mutex
	entries []Entry
	slot    [slotSize]byte
	dirty   bool // something was written since the last sync
}

// The file has a header of headerSize bytes (magic, deployment, producer, number of partitions, checksum), and for each
// partition a slot of slotSize (confirmed, promised, checksum), all little-endian.
const (
	magic      = "DRNMRKL1"
	headerSize = 64
	slotSize   = 32
	syncEvery  = time.Second
)

var table = crc32.MakeTable(crc32.Castagnoli)

// Create makes the ledger of a producer in the directory, which is made if need be. The file is as large as it will ever
// be, so that a full disk does not keep it from being written.
func Create(dir string, d drainmark.Deployment, producer drainmark.ProducerID, logger *slog.Logger) (*Ledger, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the ledger's directory: %w", err)
	}
	l := &Ledger{
		name: filepath.Join(dir, producer.String()), entries: make([]Entry, d.Partitions),
		failing: loglimit.New(logger, slog.LevelError, "what is confirmed cannot be noted in the ledger: if the queue is damaged "+
			"after the death of this process, a loss of its end may not be noticed"),
	}
	content := header(d, producer)
	for partition, e := range l.entries {
		content = append(content, l.encode(partition, e)...)
	}
	if err := l.make(content); err != nil {
		return nil, fmt.Errorf("making the ledger: %w", err)
	}
	return l, nil
}

// make makes the file. One with its name is whole: until it is, it has the name unfinished, which the next one overwrites.
func (l *Ledger) make(content []byte) (err error) {
	dir := filepath.Dir(l.name)
	first := filepath.Join(dir, unfinished)
	if l.file, err = os.OpenFile(first, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return err
	}
	if _, err = l.file.Write(content); err == nil {
		err = l.file.Sync()
	}
	if err == nil {
		err = os.Rename(first, l.name)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return errors.Join(err, l.file.Close())
	}
	return nil
}

const unfinished = "unfinished"

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func header(d drainmark.Deployment, producer drainmark.ProducerID) []byte {
	b := make([]byte, 0, headerSize)
	b = append(append(append(b, magic...), d.ID[:]...), producer[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(d.Partitions))
	b = b[:headerSize]
	binary.LittleEndian.PutUint32(b[headerSize-4:], crc32.Checksum(b[:headerSize-4], table))
	return b
}

// encode writes an entry into the slot. Called with mu held.
func (l *Ledger) encode(partition int, e Entry) []byte {
	b := l.slot[:]
	binary.LittleEndian.PutUint64(b, e.Confirmed)
	binary.LittleEndian.PutUint64(b[8:], e.Promised)
	binary.LittleEndian.PutUint32(b[slotSize-4:], slotSum(partition, b))
	return b
}

// slotSum is the checksum of a partition's slot.
func slotSum(partition int, slot []byte) uint32 {
	return crc32.Update(uint32(partition), table, slot[:slotSize-4])
}

// Confirmed notes that the broker has confirmed everything up to a sequence. It is to be called before anybody is told.
func (l *Ledger) Confirmed(partition int, last uint64) {
	l.note(partition, func(e *Entry) { e.Confirmed = last })
}

// Promised notes that a receipt of sequences up to last is about to be given out although they are not confirmed.
func (l *Ledger) Promised(partition int, last uint64) {
	l.note(partition, func(e *Entry) { e.Promised = max(e.Promised, last) })
}

func (l *Ledger) note(partition int, change func(*Entry)) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.entries[partition])
	if _, err := l.file.WriteAt(l.encode(partition, l.entries[partition]), headerSize+int64(partition)*slotSize); err != nil {
		l.failing.Log("error", err)
		return
	}
	l.failing.End("what is confirmed is noted again")
	l.dirty = true
}

// Run syncs the file once a second, until ctx ends.
func (l *Ledger) Run(ctx context.Context) {
	if l == nil {
		return
	}
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if err := l.sync(); err != nil {
			l.failing.Log("error", err)
		}
	}
}

func (l *Ledger) sync() error {
	l.mu.Lock()
	dirty := l.dirty
	l.dirty = false
	l.mu.Unlock()
	if !dirty {
		return nil
	}
	return l.file.Sync()
}

// Close syncs and closes the file, which stays for the next process unless nothing was noted.
func (l *Ledger) Close() error {
	if l == nil {
		return nil
	}
	err := errors.Join(l.sync(), l.file.Close())
	for _, e := range l.entries {
		if e != (Entry{}) {
			return err
		}
	}
	return errors.Join(err, os.Remove(l.name))
}
