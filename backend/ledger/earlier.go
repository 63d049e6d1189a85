package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"github.com/drainmark/drainmark"
)

// Earlier is what an earlier process has left.
type Earlier struct {
	Producer drainmark.ProducerID
	Entries  []Entry // by partition
	name     string
}

// errDamaged says that a ledger, or a part of one, cannot be read. Nobody knows what it had said.
var errDamaged = errors.New("the ledger is damaged")

// Read returns what earlier producers of the deployment have left in the directory. Ledgers of other deployments, and
// those in which nothing is noted, are removed. A damaged one is told with errDamaged, and is removed too: the rest is
// returned all the same.
func Read(dir string, d drainmark.Deployment) (all []Earlier, err error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the ledgers of earlier processes: %w", err)
	}
	for _, f := range files {
		producer, notOurs := drainmark.ParseProducerID(f.Name())
		if notOurs != nil {
			continue
		}
		e := Earlier{Producer: producer, name: filepath.Join(dir, f.Name())}
		content, failed := os.ReadFile(e.name)
		if failed == nil {
			failed = e.decode(content, d)
		}
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("reading the ledger of the earlier producer %s: %w", producer, failed))
		}
		if !e.empty() {
			all = append(all, e)
		} else if failed == nil || errors.Is(failed, errDamaged) {
			err = errors.Join(err, e.Settled())
		}
	}
	return all, err
}

// decode takes what it can. Nothing of another deployment.
func (e *Earlier) decode(content []byte, d drainmark.Deployment) error {
	if len(content) < headerSize || crc32.Checksum(content[:headerSize-4], table) != binary.LittleEndian.Uint32(content[headerSize-4:]) {
		return fmt.Errorf("%w: its header cannot be read", errDamaged)
	}
	if !bytes.Equal(content[:headerSize], header(d, e.Producer)) {
		return nil
	}
	e.Entries = make([]Entry, d.Partitions)
	var err error
	for partition := range e.Entries {
		slot := content[min(len(content), headerSize+partition*slotSize):]
		if len(slot) < slotSize || binary.LittleEndian.Uint32(slot[slotSize-4:]) != slotSum(partition, slot) {
			err = errors.Join(err, fmt.Errorf("%w: what it says of partition %d", errDamaged, partition))
			continue
		}
		e.Entries[partition] = Entry{Confirmed: binary.LittleEndian.Uint64(slot), Promised: binary.LittleEndian.Uint64(slot[8:])}
	}
	return err
}

func (e *Earlier) empty() bool {
	for _, entry := range e.Entries {
		if entry.Confirmed > 0 {
			return false
		}
	}
	return true
}

// Settled removes the ledger: everything that it says was confirmed is accounted for.
func (e *Earlier) Settled() error {
	if err := os.Remove(e.name); err != nil {
		return fmt.Errorf("removing the ledger of the earlier producer %s: %w", e.Producer, err)
	}
	return nil
}
