package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"encoding/binary"
	"hash"
	"strings"

	"github.com/drainmark/drainmark"
)

// digest stands for a message's content type and body.
type digest [sha256.Size]byte

// digester makes digests. It is kept for the next one because making it anew costs more than using it.
type digester struct {
	hash    hash.Hash
	scratch []byte
}

func (d *digester) of(r *drainmark.Record) digest {
	if d.hash == nil {
		d.hash = sha256.New()
	}
	d.hash.Reset()
	d.scratch = binary.AppendUvarint(d.scratch[:0], uint64(len(r.ContentType)))
	d.scratch = append(d.scratch, r.ContentType...)
	d.hash.Write(d.scratch)
	d.hash.Write(r.Body)
	d.scratch = d.hash.Sum(d.scratch[:0])
	return digest(d.scratch)
}

// keyUse is what an idempotency key stands for. The zero value is of a key that is not known.
type keyUse struct {
	known  bool
	digest digest
}

// keyDraft is a key that the commit gives a meaning.
type keyDraft struct {
	log *logDraft
	key string
}

// keysPerQuery is how many keys are looked up at once.
const keysPerQuery = 64

var selectKeys = "SELECT key, digest FROM keys WHERE log = ? AND key IN (?" + strings.Repeat(", ?", keysPerQuery-1) + ")"

// readKeys fills in what is known of the log's keys that the commit names.
func (d *draft) readKeys(l *logDraft) error {
	if l.id == 0 || len(l.keys) == 0 {
		return nil
	}
	args := make([]any, 0, 1+keysPerQuery)
	read := func() error {
		for len(args) < cap(args) {
			args = append(args, args[1]) // the statement always has as many
		}
		return d.conn.each(context.Background(), selectKeys, args, func(row []driver.Value) error {
			use := keyUse{known: true}
			copy(use.digest[:], blob(row[1]))
			l.keys[text(row[0])] = use
			return nil
		})
	}
	args = append(args, l.id)
	for key := range l.keys {
		if args = append(args, key); len(args) == cap(args) {
			if err := read(); err != nil {
				return err
			}
			args = args[:1]
		}
	}
	if len(args) == 1 {
		return nil
	}
	return read()
}

// planKey says whether the record's key is known, and if so, whether for the same message. If not, it is from now on.
func (d *draft) planKey(l *logDraft, r *drainmark.Record) (known, same bool) {
	sum := d.digester.of(r)
	use := l.keys[r.Key]
	if use.known {
		return true, use.digest == sum
	}
	l.keys[r.Key] = keyUse{known: true, digest: sum}
	d.keys = append(d.keys, keyDraft{log: l, key: r.Key})
	return false, false
}

var insertKeys = newBulk("INSERT INTO keys (log, key, partition, first_at, digest) VALUES", 5, "")

func (d *draft) writeKeys() error {
	partition, clock := value(d.commit.Partition), value(d.commit.Clock)
	var log driver.Value
	return insertKeys.insert(d.conn, len(d.keys), func(i int, row []driver.NamedValue) {
		k := d.keys[i]
		if log != k.log.id {
			log = k.log.id
		}
		use := k.log.keys[k.key]
		row[0].Value, row[1].Value, row[2].Value = log, k.key, partition
		row[3].Value, row[4].Value = clock, use.digest[:]
	})
}
