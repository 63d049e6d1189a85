package client

import (
	"context"
	"errors"
	"testing"
)

func TestWorking(t *testing.T) {
	t.Parallel()
	s := startScript(t, says(200, `{"appends":{"working":true,"reason":null},"reads":{"working":false,"reason":"why"}}`, "Drainmark-Backend: ab"))
	w, err := newClient(t, Config{URL: s.URL}).Working(t.Context())
	if err != nil || w.Appends != (Works{Working: true}) || w.Reads.Working || *w.Reads.Reason != "why" || w.Backend != "ab" {
		t.Errorf("%+v: %v", w, err)
	}
	if got := s.got()[0].RequestURI; got != "/v1/status" {
		t.Errorf("it asked %s", got)
	}
}

func TestWhoHasAnswered(t *testing.T) {
	t.Parallel()
	s := startScript(t, says(200, `{"receipt":"R1","state":"reached","log":"log","messages":[],"backend":"ab","partitions":[{}]}`, "Drainmark-Backend: ab"))
	c := newClient(t, Config{URL: s.URL})
	status, err := c.Barrier(t.Context(), 0)
	if err != nil || status.Backend != "ab" {
		t.Errorf("%+v: %v", status, err)
	}
	page, err := c.Messages(t.Context(), "log", ReadOptions{})
	if err != nil || page.Backend != "ab" {
		t.Errorf("%+v: %v", page, err)
	}
	backlog, err := c.Backlog(t.Context())
	if err != nil || backlog.Backend != "ab" {
		t.Errorf("%+v: %v", backlog, err)
	}
}

func TestConsumers(t *testing.T) {
	t.Parallel()
	s := startScript(t, says(200, `{"wanted":3,"known":true,"reason":"much","pending":{"records":25000,"exact":true},"backend":"ab"}`), says(200, `{}`))
	c := newClient(t, Config{URL: s.URL})
	w, err := c.Consumers(t.Context())
	if want := (Wanted{3, true, "much", Count{25000, true}, "ab"}); err != nil || w != want {
		t.Errorf("%+v: %v", w, err)
	}
	if got := s.got()[0].RequestURI; got != "/v1/consumers" {
		t.Errorf("it asked %s", got)
	}
	if w, err := c.Consumers(t.Context()); err == nil {
		t.Errorf("an answer without a number is taken for %+v", w)
	}
}

// nothing is a codec that decodes nothing.
type nothing struct{}

func (nothing) Encode(context.Context, string, *Message) ([]byte, error) {
	return nil, errors.New("no")
}
func (nothing) Decode(context.Context, string, *Message) ([]byte, error) {
	return nil, errors.New("no")
}

// What was not appended has no body of a client's: a clear, records that are missing, a batch that cannot be read.
func TestOnlyBodiesOfAppendsAreDecoded(t *testing.T) {
	t.Parallel()
	s := startScript(t, says(200, `{"dead_letters":[{"id":"clear","log":"log","body":"","undecoded":false},{"id":"missing","undecoded":false},`+
		`{"id":"batch","body":"xy","content_type":"a/b","undecoded":true},{"id":"append","log":"log","body":"x","content_type":"a/b","undecoded":false}]}`))
	c := newClient(t, Config{URL: s.URL, Codec: nothing{}})
	for letter, err := range c.DeadLetters(t.Context()) {
		var undecodable *DecodeError
		if letter.ID != "append" && err != nil || letter.ID == "append" && !errors.As(err, &undecodable) {
			t.Errorf("%+v: %v", letter, err)
		}
		if letter.ID == "batch" && string(letter.Body) != "xy" {
			t.Errorf("the batch is %q", letter.Body)
		}
	}
}
