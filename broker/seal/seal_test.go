package seal

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
)

// line is a key's line in a file.
func line(name string, fill byte) string {
	return name + ":" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, minSecret)) + "\n"
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// sealer returns one with the keys of a file of this text.
func sealer(t testing.TB, text string) *Sealer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	write(t, path, text)
	keys, err := LoadKeys(path, func(err error) { t.Errorf("reading the keys again: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	return &Sealer{Keys: keys, Deployment: drainmark.DeploymentID{1}}
}

var header = broker.Header{Partition: 3, Producer: drainmark.ProducerID{7}, First: 300, Last: 1 << 40}

func TestASignedBatchIsOpened(t *testing.T) {
	t.Parallel()
	s := sealer(t, line("new", 1)+"\n# what was before\n"+line("old", 2))
	before := sealer(t, line("old", 2))
	for name, by := range map[string]*Sealer{"the first key": s, "another one of the keys": before} {
		sealed := by.Seal(header, []byte("batch"))
		if batch, marks, err := s.Open(3, sealed); err != nil || string(batch) != "batch" || marks != header || len(sealed) > Overhead+5 {
			t.Errorf("%s: %q with %+v, in %d bytes: %v", name, batch, marks, len(sealed), err)
		}
	}
}

func TestWhatIsNotSignedRightIsRefused(t *testing.T) {
	t.Parallel()
	s := sealer(t, line("k", 1))
	elsewhere := sealer(t, line("k", 1))
	elsewhere.Deployment = drainmark.DeploymentID{2}
	sealed := s.Seal(header, []byte("batch"))
	cases := map[string]struct {
		partition int
		message   []byte
		why       error
	}{
		"not signed at all":             {3, []byte("DMB\x01 and so on"), ErrUnsigned},
		"nothing":                       {3, nil, ErrUnsigned},
		"of another partition":          {2, sealed, ErrForged},
		"of another deployment":         {3, elsewhere.Seal(header, []byte("batch")), ErrForged},
		"a key of the same name":        {3, sealer(t, line("k", 9)).Seal(header, []byte("batch")), ErrForged},
		"a key that is not there":       {3, sealer(t, line("other", 1)).Seal(header, []byte("batch")), ErrUnknownKey},
		"a byte more":                   {3, append(bytes.Clone(sealed), 0), ErrForged},
		"a mark above the highest":      {3, []byte(magic + "\x01k" + strings.Repeat("p", 16) + strings.Repeat("\xff", 9) + "\x01"), ErrForged},
		"a name that is longer than it": {3, []byte(magic + "\xff"), ErrForged},
	}
	for name, c := range cases {
		if batch, marks, err := s.Open(c.partition, c.message); err != c.why || batch != nil || marks != (broker.Header{}) {
			t.Errorf("%s: %q with %+v: %v", name, batch, marks, err)
		}
	}
	for bit := range 8 * len(sealed) {
		flipped := bytes.Clone(sealed)
		flipped[bit/8] ^= 1 << (bit % 8)
		if _, marks, err := s.Open(3, flipped); err == nil || marks != (broker.Header{}) {
			t.Errorf("with bit %d flipped: %+v, %v", bit, marks, err)
		}
	}
	for n := range sealed {
		if _, _, err := s.Open(3, sealed[:n]); err == nil {
			t.Errorf("cut off at %d it is opened", n)
		}
	}
}

func TestUnsignedOnesMayBeTakenAndForgedOnesNever(t *testing.T) {
	t.Parallel()
	var seen []error
	s := sealer(t, line("k", 1))
	s.Unsigned, s.Seen = true, func(err error) { seen = append(seen, err) }
	if batch, marks, err := s.Open(3, []byte("plain")); err != nil || string(batch) != "plain" || marks != (broker.Header{}) {
		t.Errorf("%q with %+v: %v", batch, marks, err)
	}
	if _, _, err := s.Open(2, s.Seal(header, []byte("batch"))); err != ErrForged {
		t.Errorf("a forged one: %v", err)
	}
	if len(seen) != 2 || seen[0] != ErrUnsigned || seen[1] != ErrForged {
		t.Errorf("told of was %v", seen)
	}
}

func TestABrokerWithSignatures(t *testing.T) {
	t.Parallel()
	server := brokermemory.NewServer(brokermemory.Options{Partitions: 4, Ordered: true, MaxPayload: 1 << 20})
	plain := server.Connect()
	defer plain.Close()
	s := sealer(t, line("k", 1))
	b := s.Broker(plain)
	if got, want := b.Traits().MaxPayload, plain.Traits().MaxPayload-Overhead; got != want {
		t.Errorf("batches may have %d bytes, not %d", got, want)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, publish := range []struct {
		to      broker.Broker
		payload string
	}{{b, "batch"}, {plain, "DMB\x01"}} {
		if err := publish.to.Publish(ctx, 3, broker.Batch{Header: header, Payload: []byte(publish.payload)}); err != nil {
			t.Fatal(err)
		}
	}
	r, err := b.Open(ctx, 3, "", false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var got []broker.Delivery
	for len(got) < 2 {
		more, err := r.Receive(ctx, 2-len(got))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, more...)
	}
	if d := got[0]; d.Header != header || string(d.Payload) != "batch" || len(d.Came) <= len(d.Payload) || d.Refused != "" {
		t.Errorf("the signed one came as %+v", d)
	}
	if d := got[1]; d.Header != (broker.Header{}) || string(d.Payload) != "DMB\x01" || !strings.Contains(d.Refused, ErrUnsigned.Error()) {
		t.Errorf("the other came as %+v", d)
	}
}

func TestKeysAreReadAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "keys")
		write(t, path, line("a", 1))
		var failed error
		keys, err := LoadKeys(path, func(err error) { failed = err })
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct{ text, signs, says string }{
			{line("b", 2) + line("a", 1), "b", ""},
			{"nonsense", "b", "line 1: "},
			{line("c", 3), "c", ""},
		} {
			before := keys.signing().name
			write(t, path, step.text)
			if got := keys.signing().name; got != before {
				t.Errorf("within a second it signs with %s", got)
			}
			failed = nil
			time.Sleep(lookAgain)
			if got := keys.signing().name; got != step.signs || (failed != nil) != (step.says != "") || failed != nil && !strings.Contains(failed.Error(), step.says) {
				t.Errorf("of %q it signs with %s, and says %v", step.text, got, failed)
			}
		}
	})
}

func TestFilesThatAreNoKeys(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"":                                    "there is none",
		"# nothing\n":                         "there is none",
		"a:" + strings.Repeat("A", 40) + "\n": "a key of 30 bytes; it must have 32",
		"a:secret!\n":                         "line 1: what follows the name is not base64",
		line("a", 1) + line("a", 2):           "line 2: the name a is there twice",
		":" + line("", 1):                     "line 1: it must be NAME:BASE64",
		line(strings.Repeat("n", 65), 1):      "with a name of 1 to 64",
		strings.Repeat("\n", maxFile+1):       "longer than 65536 bytes",
	} {
		if _, err := parse([]byte(text)); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%.40q: %v", text, err)
		}
	}
	if _, err := LoadKeys(filepath.Join(t.TempDir(), "none"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	s := sealer(f, line("k", 1))
	f.Add(s.Seal(header, []byte("batch")))
	f.Add([]byte(magic + "\xff"))
	f.Add([]byte(magic + "\x01k" + strings.Repeat("p", 16) + "\x80"))
	f.Fuzz(func(t *testing.T, message []byte) {
		batch, marks, err := s.Open(3, message)
		if err != nil && (batch != nil || marks != (broker.Header{})) {
			t.Errorf("refused (%v), and %q with %+v", err, batch, marks)
		}
		if err == nil && !bytes.Equal(s.Seal(marks, batch), message) {
			t.Error("opened, and signed again it is another")
		}
	})
}

// benchmarks of what a batch costs, with and without a signature.
func benchmark(b *testing.B, records int, s *Sealer) {
	batch := drainmark.Batch{Partition: 3, First: 1, Records: make([]drainmark.Record, records)}
	for i := range batch.Records {
		batch.Records[i] = drainmark.Record{Kind: drainmark.Append, Log: "guestbook", ContentType: "text/plain", Body: make([]byte, 200), AcceptedAt: time.Unix(int64(i), 0)}
	}
	h := broker.Header{Partition: 3, First: 1, Last: uint64(records)}
	b.ReportAllocs()
	var buffer []byte
	for b.Loop() {
		buffer = drainmark.EncodeBatch(buffer[:0], &batch)
		payload := buffer
		if s != nil {
			var err error
			if payload, _, err = s.Open(3, s.Seal(h, payload)); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := drainmark.DecodeBatch(payload); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPlain1(b *testing.B)     { benchmark(b, 1, nil) }
func BenchmarkSigned1(b *testing.B)    { benchmark(b, 1, sealer(b, line("k", 1))) }
func BenchmarkPlain1000(b *testing.B)  { benchmark(b, 1000, nil) }
func BenchmarkSigned1000(b *testing.B) { benchmark(b, 1000, sealer(b, line("k", 1))) }
