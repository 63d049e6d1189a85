package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/client"
)

// newDeployment starts a deployment, and a client for each of its backends.
func newDeployment(t testing.TB, retry client.Retry) (d *deployment, here, there *client.Client) {
	t.Helper()
	d, err := startDeployment()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	var clients [2]*client.Client
	for i := range clients {
		if clients[i], err = client.New(client.Config{URL: d.urls[i], Retry: retry}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(clients[i].Close)
	}
	return d, clients[0], clients[1]
}

const patience = 30 * time.Second

// must returns what a call returns that must not fail.
func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func (d *deployment) texts(t testing.TB, c *client.Client, log string, options client.ReadOptions) (texts []string) {
	t.Helper()
	for m, err := range c.All(t.Context(), log, options) {
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, fmt.Sprintf("%d %s", m.Position, m.Body))
	}
	return texts
}

func TestWhatIsAppendedIsRead(t *testing.T) {
	t.Parallel()
	_, here, there := newDeployment(t, client.DefaultRetry)
	sent := []client.Message{
		{Body: []byte("text"), ContentType: "text/plain; charset=utf-8"}, {Body: nil, ContentType: "a/b"},
		{Body: []byte("\x00\"\\\n\r\t\x1f\u2028 <&> \U0001F600"), ContentType: "text/plain"}, {Body: []byte{0xff, 0, 0xfe}, ContentType: "image/png"},
		{Body: []byte(`{"body":"x"}` + "\n"), ContentType: "application/x-ndjson"},
		{Body: []byte(`{"body":"y"}`), ContentType: "Application/JSONL; charset=utf-8"}, {Body: []byte("{}"), ContentType: "application/json-lines"},
		{Body: []byte("[]"), ContentType: "application/cloudevents-batch+json"}, {Body: []byte("{}"), ContentType: "Application/CloudEvents+avro; a=b"}, {Body: []byte("a"), ContentType: "application/octet-stream"},
		{Body: []byte("headed"), ContentType: "a/b", Headers: map[string]string{"tenant": "7, \"8\"", "empty": ""}},
		{Body: []byte("headed"), ContentType: "a/b", Headers: map[string]string{"text": "grüße \u2028 \U0001F600 \"\\", "b": "c"}},
	}
	single := must(here.Append(t.Context(), "log", client.Message{Body: []byte("a")}, 0))(t)
	receipts := single.Receipt
	for _, m := range sent {
		s := must(here.Append(t.Context(), "log", m, 0))(t)
		receipts = client.Merge(receipts, s.Receipt)
	}
	s := must(here.AppendMany(t.Context(), "log", sent, patience))(t)
	if s.State != client.Persisted {
		t.Errorf("after the wait it is %+v", s)
	}
	n := 0
	var ids []string
	want := append(append([]client.Message{{Body: []byte("a"), ContentType: "application/octet-stream"}}, sent...), sent...)
	options := client.ReadOptions{Limit: 2, Receipts: client.Merge(receipts, s.Receipt), Wait: patience}
	for m, err := range there.All(t.Context(), "log", options) {
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(m.Body, want[n].Body) || m.ContentType != want[n].ContentType ||
			!maps.Equal(m.Headers, want[n].Headers) || m.Position != uint64(n+1) || m.ID == "" ||
			time.Since(m.AcceptedAt) > time.Hour || m.PersistedAt.Before(m.AcceptedAt) {
			t.Errorf("message %d is %+v", n+1, m)
		}
		ids = append(ids, m.ID)
		n++
	}
	if n != len(want) {
		t.Fatalf("%d messages instead of %d", n, len(want))
	}
	merged := must(there.Status(t.Context(), client.Merge(receipts, s.Receipt), patience))(t)
	if merged.State != client.Persisted || len(merged.Receipt) > 2*len(s.Receipt) {
		t.Errorf("the merged receipt is %+v", merged)
	}
	for _, c := range []struct {
		status client.Status
		ids    []string
	}{{single, ids[:1]}, {s, ids[1+len(sent):]}, {merged, ids}} {
		if got := slices.Collect(c.status.IDs()); !slices.Equal(got, c.ids) {
			t.Errorf("the messages of %+v are said to be %v, and are %v", c.status, got, c.ids)
		}
	}
}

func TestKeysMakeSendingAgainHarmless(t *testing.T) {
	t.Parallel()
	d, here, there := newDeployment(t, client.Retry{})
	m := client.Message{Body: []byte("m"), Key: `a key, "quoted"`}
	first := must(here.Append(t.Context(), "log", m, 0))(t)
	second := must(there.AppendMany(t.Context(), "log", []client.Message{m}, patience))(t)
	if s := must(here.Wait(t.Context(), client.Merge(first.Receipt, second.Receipt)))(t); s.State != client.Persisted {
		t.Fatalf("%+v", s)
	}
	if texts := d.texts(t, there, "log", client.ReadOptions{Receipts: second.Receipt, Wait: patience}); len(texts) != 1 {
		t.Errorf("the log has %q", texts)
	}
}

func TestReadYourWritesOnAnotherReplica(t *testing.T) {
	t.Parallel()
	d, here, there := newDeployment(t, client.Retry{})
	must(here.Append(t.Context(), "log", client.Message{Body: []byte("m1")}, patience))(t)
	must(there.WaitBarrier(t.Context()))(t)
	d.replicas[1].Pause()
	s := must(here.Append(t.Context(), "log", client.Message{Body: []byte("m2")}, patience))(t)
	if _, err := there.Messages(t.Context(), "log", client.ReadOptions{Receipts: s.Receipt}); client.KindOf(err) != client.NotReached {
		t.Errorf("a replica that is behind: %v", err)
	}
	if s, err := there.Status(t.Context(), s.Receipt, 0); err != nil || s.State != client.Pending {
		t.Errorf("a replica that is behind: %+v, %v", s, err)
	}
	d.replicas[1].Resume()
	page, err := there.Messages(t.Context(), "log", client.ReadOptions{Receipts: s.Receipt, Wait: patience})
	if err != nil || page.LastPosition != 2 || len(page.Messages) != 2 {
		t.Fatalf("%+v, %v", page, err)
	}
	again, err := there.Messages(t.Context(), "log", client.ReadOptions{IfNoneMatch: page.ETag})
	if err != nil || !again.NotModified {
		t.Errorf("the same page again: %+v, %v", again, err)
	}
}

func TestTailOverAClear(t *testing.T) {
	t.Parallel()
	_, here, there := newDeployment(t, client.DefaultRetry)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	two := []client.Message{{Body: []byte("m1")}, {Body: []byte("m2")}}
	must(here.AppendMany(ctx, "log", two, patience))(t)
	must(here.Clear(ctx, "log", patience))(t)
	must(here.AppendMany(ctx, "log", two, 0))(t)
	var positions []uint64
	for m, err := range there.Tail(ctx, "log", 0) {
		if err != nil {
			t.Fatal(err)
		}
		if positions = append(positions, m.Position); m.Position == 4 {
			must(here.Append(ctx, "log", two[0], 0))(t)
		}
		if m.Position == 5 {
			break
		}
	}
	if fmt.Sprint(positions) != "[3 4 5]" && fmt.Sprint(positions) != "[1 2 3 4 5]" {
		t.Errorf("the positions are %v", positions)
	}
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	d, here, there := newDeployment(t, client.DefaultRetry)
	poison := []client.Message{
		{Body: []byte("poison 1"), ContentType: "text/plain", Key: "k1", Headers: map[string]string{"tenant": "7"}}, {Body: []byte("poison \xff")},
	}
	s := poisons(t, here, there, poison)
	bulk := client.DeadLetterFilter{Log: "log", Reason: "it is", Before: time.Now().Add(time.Hour)}
	discardsTheThird(t, there, bulk)
	if s := must(there.Wait(t.Context(), s.Receipt))(t); s.State != client.Rejected {
		t.Fatalf("it is %+v", s)
	}
	letters := listsLetters(t, there, poison)
	retriesTooEarly(t, there, letters[0], bulk)
	d.cure()
	for _, settle := range []func() (client.Status, error){
		func() (client.Status, error) { return there.RetryDeadLetter(t.Context(), letters[0].ID, patience) },
		func() (client.Status, error) { return there.DiscardDeadLetter(t.Context(), letters[1].ID, patience) },
	} {
		if s := must(settle())(t); s.State != client.Persisted {
			t.Errorf("%+v", s)
		}
	}
	told := 0
	if all, err := there.DiscardDeadLetters(t.Context(), bulk, func(client.Settled) { told++ }); err != nil || all.DeadLetters != 0 || told != 1 {
		t.Errorf("there is nothing left to discard: %+v, told %d times, %v", all, told, err)
	}
	if _, err := there.RetryDeadLetter(t.Context(), letters[0].ID, 0); client.KindOf(err) != client.NotFound || !client.NothingDone(err) {
		t.Errorf("one that is open no more: %v", err)
	}
	if texts := d.texts(t, there, "log", client.ReadOptions{}); fmt.Sprint(texts) != "[1 good 2 better 3 poison 1]" {
		t.Errorf("the log has %q", texts)
	}
	page := must(there.Messages(t.Context(), "log", client.ReadOptions{After: 2}))(t)
	if len(page.Messages) != 1 || !maps.Equal(page.Messages[0].Headers, poison[0].Headers) {
		t.Errorf("what was tried again is %+v", page.Messages)
	}
}

// poisons has two messages of three set aside, and a third one later, and returns the status of the three.
func poisons(t *testing.T, here, there *client.Client, poison []client.Message) client.Status {
	t.Helper()
	s, err := here.AppendMany(t.Context(), "log", append(poison[:2:2], client.Message{Body: []byte("good")}), patience)
	var rejected *client.RejectedError
	if !errors.As(err, &rejected) || rejected.Status.State != client.Rejected || client.NothingDone(err) || client.Retryable(err) ||
		!strings.Contains(err.Error(), "2 of 3 messages are rejected: it is poison") {
		t.Fatalf("the error is %v", err)
	}
	if s.State != client.Rejected || s.Reason == "" || s.Count != 3 || s.Rejected == nil || s.Rejected.Count != 2 || len(s.Rejected.DeadLetters) != 2 ||
		len(s.Rejected.Reasons) != 2 || s.Rejected.Reasons[0] != s.Reason {
		t.Fatalf("it is %+v", s)
	}
	if _, err := here.Append(t.Context(), "log", client.Message{Body: []byte("poison 3")}, 0); err != nil {
		t.Fatalf("without a wait: %v", err)
	}
	one := must(here.Append(t.Context(), "log", client.Message{Body: []byte("better")}, 0))(t)
	if s := must(there.StatusIn(t.Context(), "log", one.Receipt, patience))(t); one.ID == "" || len(s.Messages) != 1 ||
		s.Messages[0] != (client.Placed{Log: "log", Position: 2, ID: one.ID}) {
		t.Fatalf("of %s it is said %+v", one.ID, s)
	}
	reached := must(here.WaitBarrier(t.Context()))(t)
	if reached.SetAside == nil || *reached.SetAside != 3 {
		t.Fatalf("the barrier is %+v", reached)
	}
	return s
}

// discardsTheThird discards the last of three letters.
func discardsTheThird(t *testing.T, there *client.Client, bulk client.DeadLetterFilter) {
	t.Helper()
	if counted := must(there.CountDeadLetters(t.Context(), bulk))(t); counted.DeadLetters != 3 || counted.Records != 3 {
		t.Fatalf("counted are %+v", counted)
	}
	third := ""
	for letter, err := range there.DeadLettersOf(t.Context(), bulk) {
		if err != nil {
			t.Fatal(err)
		}
		third = letter.ID
	}
	if _, err := there.DiscardDeadLetter(t.Context(), third, patience); err != nil {
		t.Fatal(err)
	}
}

// listsLetters returns the letters of the first two messages.
func listsLetters(t *testing.T, there *client.Client, poison []client.Message) (letters []client.DeadLetter) {
	t.Helper()
	for letter, err := range there.DeadLetters(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		letters = append(letters, letter)
	}
	if len(letters) != 2 {
		t.Fatalf("%d dead letters", len(letters))
	}
	for i, l := range letters {
		if !bytes.Equal(l.Body, poison[i].Body) || !maps.Equal(l.Headers, poison[i].Headers) || l.Log != "log" || l.Reason != "it is poison" || l.Attempts != 1 || l.Undecoded ||
			l.First != l.Last || l.Producer == "" || l.SetAsideAt.IsZero() || l.AcceptedAt.IsZero() {
			t.Errorf("dead letter %d is %+v", i, l)
		}
	}
	if letters[0].Key != "k1" || letters[0].ContentType != "text/plain" {
		t.Errorf("%+v", letters[0])
	}
	return letters
}

// retriesTooEarly retries what will be refused again.
func retriesTooEarly(t *testing.T, there *client.Client, first client.DeadLetter, bulk client.DeadLetterFilter) {
	t.Helper()
	if s := must(there.RetryDeadLetter(t.Context(), first.ID, patience))(t); s.State != client.Rejected || s.Reason != "it is poison" ||
		s.Rejected == nil || !slices.Equal(s.Rejected.DeadLetters, []string{first.ID}) {
		t.Errorf("tried again too early: %+v", s)
	}
	if all, err := there.RetryDeadLetters(t.Context(), bulk, nil); err != nil || all.DeadLetters != 2 || all.Refused != 2 {
		t.Errorf("both tried again too early: %+v, %v", all, err)
	}
}

func TestBacklogAndBarrier(t *testing.T) {
	t.Parallel()
	_, here, there := newDeployment(t, client.DefaultRetry)
	must(here.Append(t.Context(), "log", client.Message{}, 0))(t)
	if s := must(there.Barrier(t.Context(), patience, "log"))(t); s.State != client.Reached {
		t.Errorf("the barrier is %+v", s)
	} else if s = must(here.BarrierAgain(t.Context(), s.Receipt, patience))(t); s.State != client.Reached {
		t.Errorf("asked again, the barrier is %+v", s)
	}
	b := must(there.Backlog(t.Context()))(t)
	if len(b.Partitions) != partitions || b.Pending.Records != 0 || b.Partitions[0].Owner == nil || *b.Partitions[0].Owner != "consumer" {
		t.Errorf("%+v", b)
	}
	if w := must(there.Consumers(t.Context()))(t); w.Consumers != 0 || !w.Known || w.Backend != b.Backend {
		t.Errorf("%+v", w)
	}
	if persisted := b.Partitions[0].Persisted + b.Partitions[1].Persisted; persisted < 2 {
		t.Errorf("%d records are persisted", persisted)
	}
}

func TestErrorsOfTheAPI(t *testing.T) {
	t.Parallel()
	_, here, _ := newDeployment(t, client.DefaultRetry)
	for name, test := range map[string]struct {
		kind client.Kind
		call func() error
	}{
		"a log's name": {client.Invalid, func() error { _, err := here.Append(t.Context(), "LOG", client.Message{}, 0); return err }},
		"a large one": {client.TooLarge, func() error {
			_, err := here.Append(t.Context(), "log", client.Message{Body: make([]byte, 256<<10+1)}, 0)
			return err
		}},
		"a receipt":   {client.InvalidReceipt, func() error { _, err := here.Wait(t.Context(), "R1"); return err }},
		"no such log": {client.NotFound, func() error { _, err := here.Messages(t.Context(), "none", client.ReadOptions{}); return err }},
		"a long key": {client.Invalid, func() error {
			_, err := here.Append(t.Context(), "log", client.Message{Key: string(bytes.Repeat([]byte("k"), 256))}, 0)
			return err
		}},
		"a large limit": {client.Invalid, func() error {
			_, err := here.Messages(t.Context(), "none", client.ReadOptions{Limit: 9999})
			return err
		}},
	} {
		err := test.call()
		var e *client.Error
		if client.KindOf(err) != test.kind || !client.NothingDone(err) || client.Retryable(err) || !errors.As(err, &e) || e.Detail == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLogsOverPages(t *testing.T) {
	t.Parallel()
	_, here, _ := newDeployment(t, client.DefaultRetry)
	const count = 120 // a page has 100
	receipts := make([]client.Receipt, count)
	for i := range receipts {
		receipts[i] = must(here.Append(t.Context(), fmt.Sprintf("log-%03d", i), client.Message{}, 0))(t).Receipt
	}
	if s := must(here.Wait(t.Context(), client.Merge(receipts...)))(t); s.State != client.Persisted {
		t.Fatalf("%+v", s)
	}
	n := 0
	for log, err := range here.Logs(t.Context()) {
		if err != nil || log.Name != fmt.Sprintf("log-%03d", n) || log.Count != 1 || log.LastPosition != 1 {
			t.Fatalf("log %d is %+v: %v", n, log, err)
		}
		n++
	}
	if n != count {
		t.Errorf("%d logs", n)
	}
}
