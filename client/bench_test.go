package client

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// canned answers every request with the same, without a network, to measure the client's own cost.
type canned struct {
	status int
	body   []byte
}

func (c *canned) RoundTrip(r *http.Request) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: c.status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(c.body)), ContentLength: int64(len(c.body)), Request: r,
	}, nil
}

func cannedClient(b *testing.B, status int, body string) *Client {
	return newClient(b, Config{URL: "http://host", HTTP: &http.Client{Transport: &canned{status, []byte(body)}}, Retry: DefaultRetry})
}

func accepted(count int) string {
	return fmt.Sprintf(`{"receipt":"AZlygAVxXFU75e2K2AYBAgDD6X5r_2gM_r6DLh9Xg7Q-BAAAR1bb2g","count":%d,"state":"accepted"}`, count)
}

func BenchmarkAppend(b *testing.B) {
	c := cannedClient(b, 202, accepted(1))
	m := Message{Body: bytes.Repeat([]byte("x"), 200), ContentType: "text/plain; charset=utf-8"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Append(b.Context(), "guestbook", m, 0); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendOverTheNetwork(b *testing.B) {
	s := startScript(b, says(202, accepted(1)))
	s.Config.Handler = says(202, accepted(1))
	c := newClient(b, Config{URL: s.URL, Retry: DefaultRetry})
	m := Message{Body: bytes.Repeat([]byte("x"), 200), ContentType: "text/plain; charset=utf-8"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Append(b.Context(), "guestbook", m, 0); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendMany(b *testing.B) {
	const count = 1000
	c := cannedClient(b, 202, accepted(count))
	messages := make([]Message, count)
	for i := range messages {
		messages[i] = Message{Body: bytes.Repeat([]byte("x"), 200), ContentType: "text/plain; charset=utf-8"}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.AppendMany(b.Context(), "guestbook", messages, 0); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*count/b.Elapsed().Seconds(), "messages/s")
}

func BenchmarkMessages(b *testing.B) {
	const count = 1000
	c := cannedClient(b, 200, pageText(count))
	b.ReportAllocs()
	for b.Loop() {
		page, err := c.Messages(b.Context(), "guestbook", ReadOptions{Limit: count})
		if err != nil || len(page.Messages) != count {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*count/b.Elapsed().Seconds(), "messages/s")
}

// pageText is a page of messages of 200 bytes.
func pageText(count int) string {
	var messages []string
	for i := range count {
		messages = append(messages, fmt.Sprintf(`{"position":%d,"id":"0-4bf92f3577b34da6a3ce929d0e0e4736-%[1]d","body":"%[2]s","content_type":"text/plain; charset=utf-8",`+
			`"accepted_at":"2026-03-01T10:00:00.000001Z","persisted_at":"2026-03-01T10:00:00.004000Z"}`, i+1, strings.Repeat("x", 200)))
	}
	return fmt.Sprintf(`{"log":"guestbook","messages":[%s],"last_position":%d,"count":%[2]d,"first_position":1}`+"\n", strings.Join(messages, ","), count)
}
