package redis

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

func FuzzText(f *testing.F) {
	for _, text := range []string{"", "1 2 3 00000000000000000000000000000001 10 text/plain\nbody",
		"1 2 3 00000000000000000000000000000001 10+4 text/plaina:b\n\nbody", "5 1-500,502-900", "1-2-3\n0 00 1 2", "1 2 \"log\" "} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = parseMessage(0, reply{[]any{"1-0", []any{"m", text}}})
		_, _, _ = parseHead("id", reply{text})
		_, _ = parseLetter("id", reply{"\n0 00000000000000000000000000000001 1 1 0 1 0 0 \"\" \"\""}, reply{text})
		_, _ = parseProducer(text)
		_, _ = parseLog("log", reply{text})
		_, _ = readDeployment(reply{text})
	})
}

func TestAStoreOfAnotherFormatIsRefused(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{"0102030405060708 4": "has format 1", "0102030405060708 4 3": "has format 3"} {
		if _, err := readDeployment(reply{text}); !errors.Is(err, store.ErrMisconfigured) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", text, err)
		}
	}
	want := newDeployment(drainmark.Deployment{ID: drainmark.DeploymentID{1}, Partitions: 4})
	if d, err := readDeployment(reply{want.text}); err != nil || *d != *want {
		t.Errorf("%q: %+v, %v", want.text, d, err)
	}
}

func TestADeadLetterOfAnOlderVersionIsRead(t *testing.T) {
	t.Parallel()
	record := drainmark.Record{
		Kind: drainmark.Append, Log: "a log", ContentType: "text/plain", Body: []byte("two\nlines"), Key: "key", AcceptedAt: time.UnixMicro(5).UTC(),
	}
	record.Headers, _ = drainmark.TraceHeaders("00-ab-cd-01")
	content := "1 5 \"a log\" \"text/plain\" \"key\" \"\" \"00-ab-cd-01\" \ntwo\nlines"
	for head, want := range map[string]string{
		"\n0 00000000000000000000000000000001 7 7 9 1 0 0 \"a log\" \"why\"": "",
		"\n0 00000000000000000000000000000001 7 7 9 1 0 1 \"\" \"why\"":      "two\nlines", // undecoded
	} {
		l, err := parseLetter("id", reply{head}, reply{content})
		if err != nil || !l.AcceptedAt.Equal(record.AcceptedAt) {
			t.Errorf("%q is read as %+v (%v)", head, l, err)
		}
		if r, ok := l.Record(); want == "" && (!ok || !reflect.DeepEqual(r, record)) || want != "" && string(l.Payload) != want {
			t.Errorf("%q holds %q", head, l.Payload)
		}
	}
}

func TestAMessageIsReadAsItWasWrittenOrNotAtAll(t *testing.T) {
	t.Parallel()
	headers, err := drainmark.NewHeaders(drainmark.Header{Name: "a", Value: "b"}, drainmark.Header{Name: "c"})
	if err != nil {
		t.Fatal(err)
	}
	want := drainmark.Message{
		Position: 1, Mark: drainmark.Mark{Producer: drainmark.ProducerID{15: 1}, Sequence: 1}, ContentType: "text/plain", Body: []byte("a:b\n"),
		AcceptedAt: time.UnixMicro(2).UTC(), PersistedAt: time.UnixMicro(5).UTC(),
	}
	const head = "1 2 3 00000000000000000000000000000001 "
	for text, has := range map[string]drainmark.Headers{
		head + "10 text/plain\na:b\n":               {},
		head + "10+7 text/plaina:b\nc:\n\na:b\n":    headers,
		head + "10+6 text/plaina:b\nc:\n\na:b\n":    {}, // and so on: not as it was written
		head + "10+8 text/plaina:b\nc:\n\na:b\n":    {},
		head + "10+99 text/plaina:b\nc:\n\na:b\n":   {},
		head + "10+ text/plain\na:b\n":              {},
		head + "10+-1 text/plain\na:b\n":            {},
		head + "+7 text/plaina:b\nc:\n\na:b\n":      {},
		head + "99 text/plain\na:b\n":               {},
		head + "9999999999999 text/plain\na:b\n":    {},
		head + "10+7 text/plaina-b\nc:\n\na:b\n":    {},
		head + "10+2147483647 text/plain\na:b\n":    {},
		head + "2147483647+7 text/plain\na:b\n":     {},
		head + "10+7 text/plaina:b\nc:\n":           {},
		head + "10+14 text/plain\na:b\nc:\na:b\n\n": {},
	} {
		m, err := parseMessage(0, reply{[]any{"1-0", []any{"m", text}}})
		if !has.IsZero() || text == head+"10 text/plain\na:b\n" {
			want.Headers = has
			if err != nil || !reflect.DeepEqual(m, want) || string(appendMessage(nil, &m))+string(m.Body) != text {
				t.Errorf("%q is read as %+v (%v)", text, m, err)
			}
		} else if !errors.Is(err, store.ErrMisconfigured) {
			t.Errorf("%q is read as %+v (%v)", text, m, err)
		}
	}
}
