// Package cloudevents sends events to a real drainmark with the official SDK, and reads them back with it.
// It is a module of its own, so that nobody who imports Drainmark gets the SDK's packages.
package cloudevents

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/cloudevents/sdk-go/v2/types"
)

const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// events are those that the tests send.
func events(t *testing.T) (list []event.Event) {
	t.Helper()
	datas := []struct {
		contentType string
		data        any
	}{
		{"application/json", map[string]any{"item": "tea", "count": 2}}, {"text/plain; charset=utf-8", []byte("hello, Zoë\n")},
		{"application/xml", []byte(`<much wow="xml"/>`)}, {"application/octet-stream", []byte("\x00\xff")}, {"", nil},
		{"application/json", json.RawMessage(`"a string"`)},
	}
	for i, d := range datas {
		e := event.New()
		e.SetID(fmt.Sprintf("id %d", i))
		e.SetSource("https://example.com/shop?a=b#c")
		e.SetType("com.example.order.placed")
		if d.data != nil {
			must(t, e.SetData(d.contentType, d.data))
		}
		list = append(list, e)
	}
	full := &list[0]
	full.SetSubject(`Zoë's "order" 😀`)
	full.SetTime(time.Date(2018, 4, 5, 3, 56, 24, 123456789, time.UTC))
	full.SetDataSchema("https://example.com/order.json")
	for name, value := range map[string]any{"aninteger": int32(-5), "aboolean": true, "astring": "5", "bytes": []byte{0, 255},
		"anuri": &url.URL{Scheme: "https", Host: "example.com"}, "atime": time.Unix(1, 5), "traceparent": parent, "tracestate": "a=1"} {
		full.SetExtension(name, value)
	}
	return list
}

// text writes an event for a comparison, without what was added when it was read. In HTTP's headers extensions have no
// types, and in JSON only two have one.
func text(t *testing.T, e event.Event, typed bool) string {
	t.Helper()
	var lines []string
	for name, value := range e.Extensions() {
		kind := "string"
		switch value.(type) {
		case int32, bool:
			if typed {
				kind = fmt.Sprintf("%T", value)
			}
		}
		canonical, err := types.Format(value)
		must(t, err)
		if !strings.HasPrefix(name, "drainmark") {
			lines = append(lines, fmt.Sprintf("%s: %s (%s)", name, canonical, kind))
		}
	}
	slices.Sort(lines)
	return fmt.Sprintf("%s %s %s %q %s %s %s\n%s\n%q", e.ID(), e.Source(), e.Type(), e.Subject(), e.Time(), e.DataSchema(), e.DataContentType(),
		strings.Join(lines, "\n"), e.Data())
}

// client is one of the SDK, which sends to a log and waits until what it sends can be read.
func client(t *testing.T, messages string) cloudevents.Client {
	t.Helper()
	p, err := cehttp.New(cehttp.WithTarget(messages), cehttp.WithHeader("Prefer", "wait=30"))
	must(t, err)
	c, err := cloudevents.NewClient(p) // NewClientHTTP would set the time of an event that has none
	must(t, err)
	return c
}

// status returns with what a request was answered.
func status(t *testing.T, result error) int {
	t.Helper()
	var answered *cehttp.Result
	if !cloudevents.ResultAs(result, &answered) {
		t.Fatalf("it was not answered: %v", result)
	}
	return answered.StatusCode
}

// page returns the events of a log, as the SDK reads a page.
func page(t *testing.T, messages string) []event.Event {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, messages, nil)
	must(t, err)
	request.Header.Set("Accept", event.ApplicationCloudEventsBatchJSON)
	answer, err := http.DefaultClient.Do(request)
	must(t, err)
	defer answer.Body.Close()
	list, err := cehttp.NewEventsFromHTTPResponse(answer)
	must(t, err)
	return list
}

// stream returns the first events of a log, as its event stream has them.
func stream(t *testing.T, log string, count int) (list []event.Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, log+"/events?after=0&format=cloudevents", nil)
	must(t, err)
	answer, err := http.DefaultClient.Do(request)
	must(t, err)
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); len(list) < count && lines.Scan(); {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			var e event.Event
			must(t, json.Unmarshal([]byte(data), &e))
			list = append(list, e)
		}
	}
	return list
}

// send sends events in a mode, and fails the test unless they are persisted.
func send(t *testing.T, mode, messages string, list []event.Event) {
	t.Helper()
	if mode == "batched" {
		request, err := cehttp.NewHTTPRequestFromEvents(t.Context(), messages, list)
		must(t, err)
		request.Header.Set("Prefer", "wait=30")
		answer, err := http.DefaultClient.Do(request)
		must(t, err)
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusCreated {
			t.Fatalf("the batch is answered with %s", answer.Status)
		}
		return
	}
	ctx, c := t.Context(), client(t, messages)
	if mode == "structured" {
		ctx = binding.WithForceStructured(ctx)
	}
	for _, e := range list {
		if result := c.Send(ctx, e); status(t, result) != http.StatusCreated {
			t.Fatalf("%s is answered with %v", e.ID(), result)
		}
	}
}

func TestEventsComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	api := up(t)
	for _, mode := range []string{"binary", "structured", "batched"} {
		t.Run(mode, func(t *testing.T) {
			log, sent := api+"/v1/logs/"+mode, events(t)
			send(t, mode, log+"/messages", sent)
			for name, got := range map[string][]event.Event{"page": page(t, log+"/messages"), "stream": stream(t, log, len(sent))} {
				if len(got) != len(sent) {
					t.Fatalf("the %s has %d events, want %d", name, len(got), len(sent))
				}
				for i := range sent {
					must(t, got[i].Validate())
					if got, want := text(t, got[i], true), text(t, sent[i], mode != "binary"); got != want {
						t.Errorf("on the %s it is\n%s\nand was\n%s", name, got, want)
					}
				}
			}
		})
	}
}

func TestAnEventThatIsSentAgain(t *testing.T) {
	t.Parallel()
	api := up(t)
	messages := api + "/v1/logs/orders/messages"
	c, e := client(t, messages), events(t)[0]
	for range 3 {
		if result := c.Send(t.Context(), e); !cloudevents.IsACK(result) {
			t.Fatalf("it is answered with %v", result)
		}
	}
	other := e.Clone()
	must(t, other.SetData("text/plain", []byte("another")))
	if result := c.Send(t.Context(), other); status(t, result) != http.StatusAccepted {
		t.Errorf("another event with the same source and id is answered with %v", result)
	}
	if got := page(t, messages); len(got) != 1 || text(t, got[0], true) != text(t, e, false) {
		t.Errorf("the log has %v", got)
	}
	answer, err := http.Get(api + "/v1/dead-letters?log=orders")
	must(t, err)
	defer answer.Body.Close()
	var letters struct {
		List []struct{ Reason string } `json:"dead_letters"`
	}
	must(t, json.NewDecoder(answer.Body).Decode(&letters))
	if len(letters.List) != 1 || !strings.HasPrefix(letters.List[0].Reason, "idempotency-key-reused") {
		t.Errorf("set aside are %+v", letters.List)
	}
}

// The SDK does not percent-encode: what is no escape must be refused, and not be taken for something else.
func TestWhatTheSDKDoesNotEncode(t *testing.T) {
	t.Parallel()
	messages := up(t) + "/v1/logs/orders/messages"
	e := events(t)[4]
	for _, source := range []string{"/caf%C3%A9", "/a%20b"} {
		e.SetSource(source)
		if result := client(t, messages).Send(t.Context(), e); status(t, result) != http.StatusBadRequest {
			t.Errorf("the source %s is answered with %v", source, result)
		}
		send(t, "structured", messages, []event.Event{e})
	}
	got := page(t, messages)
	if len(got) != 2 || got[0].Source() != "/caf%C3%A9" || got[1].Source() != "/a%20b" {
		t.Errorf("the log has %v", got)
	}
}

// Messages that are no events are events to the SDK, too, also when nothing is left of one.
func TestMessagesThatAreNoEvents(t *testing.T) {
	t.Parallel()
	messages := up(t) + "/v1/logs/notes/messages"
	for _, request := range [][2]string{{http.MethodPost, messages}, {http.MethodPost, messages}, {http.MethodDelete, messages + "/2"}} {
		r, err := http.NewRequestWithContext(t.Context(), request[0], request[1], strings.NewReader("hello"))
		must(t, err)
		r.Header.Set("Content-Type", "text/plain")
		r.Header.Set("Prefer", "wait=30")
		answer, err := http.DefaultClient.Do(r)
		must(t, err)
		must(t, answer.Body.Close())
	}
	all := page(t, messages)
	if len(all) != 2 {
		t.Fatalf("the log has %v", all)
	}
	for i, got := range all {
		must(t, got.Validate())
		position, wantType, wantData := got.Extensions()["drainmarkposition"], "io.github.drainmark.message", "hello"
		if i == 1 {
			wantType, wantData = "io.github.drainmark.erased", ""
		}
		if position != fmt.Sprint(i+1) || got.Type() != wantType || got.Source() != "/v1/logs/notes" || string(got.Data()) != wantData {
			t.Errorf("message %d is %s", i+1, got)
		}
	}
}
