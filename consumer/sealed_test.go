package consumer

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	"github.com/drainmark/drainmark/broker/seal"
)

// With keys, what is not signed becomes a letter that accounts for no marks, whatever it claims, and a retry persists it
// only if unsigned batches are taken by then. What is signed and cannot be decoded accounts for its own marks.
func TestSignedBatches(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte("k:"+base64.StdEncoding.EncodeToString(make([]byte, 32))), 0o600); err != nil {
		t.Fatal(err)
	}
	bubble(t, brokermemory.Options{Ordered: true}, func(r *rig) {
		keys, err := seal.LoadKeys(path, func(error) {})
		if err != nil {
			r.Fatal(err)
		}
		s := &seal.Sealer{Keys: keys, Deployment: r.Deployment.ID}
		r.wrap, r.open = s.Broker, func(p int, message []byte) ([]byte, error) {
			batch, _, err := s.Open(p, message)
			return batch, err
		}
		r.begin()
		signed := func(b broker.Batch) { r.publishRaw(b.Header, s.Seal(b.Header, b.Payload)) }
		signed(r.batch(1, message("a")))
		forged := r.batch(2, message("forged"))
		r.publishRaw(forged.Header, forged.Payload)
		r.publishRaw(broker.Header{Producer: r.producer, First: 2, Last: 3}, make([]byte, 1000))
		signed(r.batch(2, message("b")))
		newer := r.batch(3, message("newer"), message("newer"))
		newer.Payload[3]++ // the version
		signed(newer)
		signed(r.batch(5, message("c")))
		r.Wait(time.Second)
		r.expect("a", "b", "c")
		letters := r.letters()
		if len(letters) != 3 || letters[0].Span.First != 0 || letters[1].Span.First != 0 || letters[2].Span.First != 3 || letters[2].Span.Last != 4 {
			r.Fatalf("there are %d letters: %+v", len(letters), letters)
		}
		if !strings.Contains(letters[0].Reason, "not signed") || !strings.Contains(letters[2].Reason, "version") {
			r.Errorf("the reasons are %q and %q", letters[0].Reason, letters[2].Reason)
		}
		signed(r.batch(6, drainmark.Record{Kind: drainmark.Retry, Target: letters[0].ID}))
		r.Wait(time.Second)
		r.expect("a", "b", "c")
		r.producer = drainmark.NewProducerID()
		early := r.batch(1, message("early")) // of a backend that has no key yet
		r.publishRaw(early.Header, early.Payload)
		r.Wait(time.Second)
		s.Unsigned = true
		signed(r.batch(2, drainmark.Record{Kind: drainmark.Retry, Target: r.letters()[3].ID}))
		r.Wait(time.Minute)
		r.expect("a", "b", "c", "early")
		if missing := r.progress().Missing(); len(missing) != 0 {
			r.Errorf("missing are %v", missing)
		}
	})
}
