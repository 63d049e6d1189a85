package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
)

// answerTime is how long a client waits for an answer, besides the wait that it asks for. Drainmark promises one within
// 10 seconds.
const answerTime = 15 * time.Second

// answer is an HTTP response, read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// request is what a client asks. Its header is pairs of names and values.
type request struct {
	method, url string
	body        []byte
	header      []string
	wait        int // in seconds, 0 for no wait
}

// newHTTPClient makes an HTTP client, whose connections are closed with the test.
func newHTTPClient(t testing.TB) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// send makes one request, exactly once.
func send(ctx context.Context, client *http.Client, r request) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime+time.Duration(r.wait)*time.Second)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, r.method, r.url, bytes.NewReader(r.body))
	if err != nil {
		return answer{}, err
	}
	q.GetBody = nil // a request with a key is not sent again behind our back
	for i := 0; i+1 < len(r.header); i += 2 {
		q.Header.Set(r.header[i], r.header[i+1])
	}
	if r.wait > 0 {
		q.Header.Set("Prefer", fmt.Sprint("wait=", r.wait))
	}
	response, err := client.Do(q)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, body}, err
}

// get reads something on a connection of its own.
func get(ctx context.Context, url string) (answer, error) {
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	return send(ctx, &http.Client{Transport: transport}, request{method: "GET", url: url})
}

// status is what the API says of a receipt, a barrier, or an append.
type status struct {
	Receipt string `json:"receipt"`
	State   string `json:"state"`
	Reason  string `json:"reason"`
	Count   int    `json:"count"`
}

// page is a part of a log.
type page struct {
	Messages     []message `json:"messages"`
	LastPosition uint64    `json:"last_position"`
	Count        uint64    `json:"count"`
}

// message is a message as it was read.
type message struct {
	Position uint64 `json:"position"`
	ID       string `json:"id"`
	Body     string `json:"body"`
}

// mark returns the message's mark.
func (m *message) mark(t testing.TB) drainmark.Mark {
	t.Helper()
	mark, err := drainmark.ParseMark(m.ID)
	if err != nil {
		t.Fatalf("the id of a message: %v", err)
	}
	return mark
}

func messagesURL(base, log string) string { return base + "/v1/logs/" + log + "/messages" }

// readPage reads a page, with a receipt if there is one. An error means that no page was shown.
func readPage(ctx context.Context, client *http.Client, base, log string, after uint64, limit int, receipt string, wait int) (page, int, error) {
	r := request{method: "GET", url: fmt.Sprintf("%s?after=%d&limit=%d", messagesURL(base, log), after, limit), wait: wait}
	if receipt != "" {
		r.header = []string{"Drainmark-Receipt", receipt}
	}
	var p page
	a, err := send(ctx, client, r)
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("%d %.300s", a.status, a.body)
	}
	if err == nil {
		err = json.Unmarshal(a.body, &p)
	}
	return p, a.status, err
}

// ask makes a request that is answered with a status.
func ask(ctx context.Context, client *http.Client, method, url string, wait int) (status, error) {
	var s status
	a, err := send(ctx, client, request{method: method, url: url, wait: wait})
	if err == nil && a.status != http.StatusOK && a.status != http.StatusAccepted {
		err = fmt.Errorf("%d %.300s", a.status, a.body)
	}
	if err == nil {
		err = json.Unmarshal(a.body, &s)
	}
	return s, err
}
