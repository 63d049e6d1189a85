package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/drainmark/drainmark/client"
	"github.com/drainmark/drainmark/client/aesgcm"
)

// newCodec makes a codec of a key of that ID.
func newCodec(t testing.TB, id string) *aesgcm.Codec {
	t.Helper()
	codec, err := aesgcm.New(aesgcm.Key{ID: id, Secret: bytes.Repeat([]byte(id[:1]), 32)})
	if err != nil {
		t.Fatal(err)
	}
	return codec
}

// withCodec makes a client of a deployment's backend that has a codec.
func withCodec(t testing.TB, url string, codec client.Codec) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{URL: url, Retry: client.DefaultRetry, Codec: codec})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// What is appended in any way is encoded, also where that needs another request, and decoded in any way of reading it.
func TestBodiesAreEncoded(t *testing.T) {
	t.Parallel()
	d, plain, _ := newDeployment(t, client.DefaultRetry)
	c := withCodec(t, d.urls[0], newCodec(t, "a"))
	sent := []client.Message{
		{Body: []byte("canary 1"), ContentType: "text/plain"}, {Body: []byte("canary 2")}, {Body: []byte("canary 3"), ContentType: " text/html  "},
		{Body: []byte(`{"body":"canary 4"}`), ContentType: "application/x-ndjson"}, {Body: []byte("canary 5"), Headers: map[string]string{"a": "ä"}},
	}
	for _, m := range sent {
		must(c.Append(t.Context(), "log", m, 0))(t)
	}
	receipt := must(c.AppendMany(t.Context(), "log", sent, 0))(t).Receipt
	if !bytes.Equal(sent[0].Body, []byte("canary 1")) {
		t.Error("appending changes what was given")
	}
	sent = append(sent, sent...)
	options := client.ReadOptions{Receipts: receipt, Wait: patience}
	page := must(c.Messages(t.Context(), "log", options))(t)
	var all, tailed []client.Message
	for m, err := range c.All(t.Context(), "log", options) {
		all = append(all, must(m, err)(t))
	}
	for m, err := range c.Tail(t.Context(), "log", 0) {
		if tailed = append(tailed, must(m, err)(t)); len(tailed) == len(sent) {
			break
		}
	}
	for name, got := range map[string][]client.Message{"a page": page.Messages, "all": all, "the tail": tailed} {
		if !slices.EqualFunc(sent, got, func(a, b client.Message) bool { return bytes.Equal(a.Body, b.Body) }) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for i, m := range must(plain.Messages(t.Context(), "log", options))(t).Messages {
		if bytes.Contains(m.Body, []byte("canary")) || m.ContentType != all[i].ContentType || m.Err != nil {
			t.Errorf("stored is %+v", m)
		}
	}
}

// A body that cannot be decoded is an error of its own message, with the body as it is stored. All others are read.
func TestBodiesThatCannotBeDecoded(t *testing.T) {
	t.Parallel()
	d, plain, _ := newDeployment(t, client.DefaultRetry)
	c := withCodec(t, d.urls[0], newCodec(t, "a"))
	must(c.Append(t.Context(), "log", client.Message{Body: []byte("first")}, 0))(t)
	must(plain.Append(t.Context(), "log", client.Message{Body: []byte("plain")}, 0))(t)
	receipt := must(c.Append(t.Context(), "log", client.Message{Body: []byte("last")}, 0))(t).Receipt
	options := client.ReadOptions{Receipts: receipt, Wait: patience}
	page := must(c.Messages(t.Context(), "log", options))(t)
	reads := map[string][]string{"a page": nil}
	for _, m := range page.Messages {
		reads["a page"] = append(reads["a page"], outcome(m, m.Err))
	}
	for m, err := range c.All(t.Context(), "log", options) {
		reads["all"] = append(reads["all"], outcome(m, err))
	}
	for m, err := range c.Tail(t.Context(), "log", 0) {
		if reads["the tail"] = append(reads["the tail"], outcome(m, err)); m.Position == 3 {
			break
		}
	}
	want := []string{"1 first", fmt.Sprintf("2 not: plain of log at 2 is %s", page.Messages[1].ID), "3 last"}
	for name, got := range reads {
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q", name, got)
		}
	}
	if said := page.Messages[1].Err.Error(); strings.Contains(said, "plain") || !strings.Contains(said, "log") {
		t.Errorf("the error is %s", said)
	}
}

// outcome describes what reading a message gave.
func outcome(m client.Message, err error) string {
	var undecodable *client.DecodeError
	switch {
	case err == nil:
		return fmt.Sprintf("%d %s", m.Position, m.Body)
	case errors.As(err, &undecodable) && errors.Is(err, aesgcm.ErrPlain) && m.Body == nil:
		return fmt.Sprintf("%d not: %s of %s at %d is %s", m.Position, undecodable.Body, undecodable.Log, undecodable.Position, undecodable.ID)
	}
	return err.Error()
}

func TestBodiesOfDeadLettersAreDecoded(t *testing.T) {
	t.Parallel()
	d, plain, _ := newDeployment(t, client.DefaultRetry)
	c := withCodec(t, d.urls[0], newCodec(t, "a"))
	first := client.Message{Body: []byte("first"), Key: "k"}
	must(c.Append(t.Context(), "log", first, 0))(t)
	for _, body := range []string{"taken 1", "taken 2"} {
		must(c.Append(t.Context(), "log", client.Message{Body: []byte(body), Key: "k"}, 0))(t)
	}
	must(plain.Append(t.Context(), "log", client.Message{Body: []byte("plain"), Key: "k"}, 0))(t)
	must(c.WaitBarrier(t.Context()))(t)
	var got []string
	for letter, err := range c.DeadLetters(t.Context()) {
		got = append(got, outcome(client.Message{Body: letter.Body}, err))
		var undecodable *client.DecodeError
		if errors.As(err, &undecodable) && (undecodable.ID != letter.ID || undecodable.Log != "log") {
			t.Errorf("the error is %+v", undecodable)
		}
	}
	if len(got) != 3 || got[0] != "0 taken 1" || got[1] != "0 taken 2" || !strings.HasPrefix(got[2], "0 not: plain of log at 0") {
		t.Errorf("the dead letters are %q", got)
	}
}

// The database takes a second append with the same key for the same message, also when another process has encrypted it
// anew. With another current key it is another message, as docs/security.md says.
func TestEncryptedAgainWithTheSameKey(t *testing.T) {
	t.Parallel()
	d, _, _ := newDeployment(t, client.DefaultRetry)
	m := client.Message{Body: []byte("order"), ContentType: "text/plain", Key: "order-1"}
	for i := range 2 {
		s := must(withCodec(t, d.urls[i], newCodec(t, "a")).Append(t.Context(), "log", m, patience))(t)
		if s.State != client.Persisted {
			t.Errorf("process %d: %+v", i, s)
		}
	}
	_, err := withCodec(t, d.urls[0], newCodec(t, "b")).Append(t.Context(), "log", m, patience)
	var rejected *client.RejectedError
	if !errors.As(err, &rejected) || !strings.HasPrefix(rejected.Status.Reason, "idempotency-key-reused") {
		t.Errorf("with another current key: %v", err)
	}
	if texts := d.texts(t, withCodec(t, d.urls[0], newCodec(t, "a")), "log", client.ReadOptions{}); !slices.Equal(texts, []string{"1 order"}) {
		t.Errorf("the log has %q", texts)
	}
}

// lossy is a way on which every other answer is lost, the first one too.
type lossy struct {
	mu     sync.Mutex
	bodies []string
}

func (l *lossy) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.bodies = append(l.bodies, string(body))
	first := len(l.bodies)%2 == 1
	l.mu.Unlock()
	r.Body = io.NopCloser(bytes.NewReader(body))
	response, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && first {
		response.Body.Close()
		return nil, io.ErrUnexpectedEOF
	}
	return response, err
}

// A request that is made again has the very same bytes, although a body without a key is never encrypted the same twice.
func TestRetriesSendTheSameBytes(t *testing.T) {
	t.Parallel()
	d, plain, _ := newDeployment(t, client.DefaultRetry)
	way := &lossy{}
	c, err := client.New(client.Config{URL: d.urls[0], Retry: client.DefaultRetry, Codec: newCodec(t, "a"), HTTP: &http.Client{Transport: way}})
	if err != nil {
		t.Fatal(err)
	}
	m := client.Message{Body: []byte("m")}
	must(c.Append(t.Context(), "log", m, patience))(t)
	must(c.AppendMany(t.Context(), "log", []client.Message{m, m}, patience))(t)
	if len(way.bodies) != 4 || way.bodies[0] != way.bodies[1] || way.bodies[2] != way.bodies[3] {
		t.Errorf("sent was %q", way.bodies)
	}
	if n := len(d.texts(t, plain, "log", client.ReadOptions{})); n != 3 {
		t.Errorf("%d messages are in the log", n)
	}
}

// failing is a codec that cannot encode bodies that begin with "bad".
type failing struct{ client.Codec }

var errBad = errors.New("it is bad")

func (f failing) Encode(ctx context.Context, log string, m *client.Message) ([]byte, error) {
	if bytes.HasPrefix(m.Body, []byte("bad")) {
		return nil, errBad
	}
	return f.Codec.Encode(ctx, log, m)
}

func TestWhatCannotBeEncodedIsNotSent(t *testing.T) {
	t.Parallel()
	d, plain, _ := newDeployment(t, client.DefaultRetry)
	c := withCodec(t, d.urls[0], failing{newCodec(t, "a")})
	good, bad := client.Message{Body: []byte("good")}, client.Message{Body: []byte("bad")}
	_, one := c.Append(t.Context(), "log", bad, 0)
	_, many := c.AppendMany(t.Context(), "log", []client.Message{good, bad}, 0)
	for _, err := range []error{one, many} {
		if !errors.Is(err, errBad) || !client.NothingDone(err) {
			t.Errorf("the error is %v", err)
		}
	}
	if !strings.Contains(many.Error(), "message 2 of 2: encoding the body: it is bad") {
		t.Errorf("the error is %v", many)
	}
	must(plain.WaitBarrier(t.Context()))(t)
	if _, err := plain.Messages(t.Context(), "log", client.ReadOptions{}); client.KindOf(err) != client.NotFound {
		t.Errorf("something was sent: %v", err)
	}
}

// What the document shows is what the example does, which is run.
func TestDocumentOfCodecs(t *testing.T) {
	t.Parallel()
	document, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, behind, _ := strings.Cut(string(document), "## Bodies that only clients read")
	_, behind, _ = strings.Cut(behind, "```go\n")
	snippet, _, found := strings.Cut(behind, "```")
	lines := 0
	for line := range strings.Lines(snippet) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		lines++
		if !strings.Contains(string(example), line) {
			t.Errorf("the example has no %s", line)
		}
	}
	if !found || lines < 5 {
		t.Errorf("the document shows %d lines", lines)
	}
}
