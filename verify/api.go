package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// page is what a GET of a log's messages answers.
type page struct {
	Log          string        `json:"log"`
	Messages     []pageMessage `json:"messages"`
	LastPosition uint64        `json:"last_position"`
	Count        uint64        `json:"count"`
}

type pageMessage struct {
	Position    uint64 `json:"position"`
	ID          string `json:"id"`
	Body        string `json:"body"`
	BodyBase64  []byte `json:"body_base64"` // in place of Body, if that is not text
	ContentType string `json:"content_type"`
	AcceptedAt  string `json:"accepted_at"`
}

// bytes returns the body as it was sent, if it is what was sent.
func (m *pageMessage) bytes() []byte {
	if m.BodyBase64 != nil {
		return m.BodyBase64
	}
	return []byte(m.Body)
}

// status is what is answered to an append, a clear, a receipt and a barrier.
type status struct {
	Receipt string `json:"receipt"`
	State   string `json:"state"`
	Reason  string `json:"reason"`
	Count   int    `json:"count"` // only of an append
}

// line is one message of a request of many.
type line struct {
	Body        string `json:"body,omitempty"`
	BodyBase64  []byte `json:"body_base64,omitempty"`
	ContentType string `json:"content_type"`
	Key         string `json:"key"`
}

func messagesPath(log string) string { return "/v1/logs/" + url.PathEscape(log) + "/messages" }

// messages reads one page behind a position; with a receipt, from a state that holds its writes.
func (c *client) messages(ctx context.Context, log string, after uint64, limit int, receipt string, wait bool) (page, error) {
	var p page
	query := "?after=" + strconv.FormatUint(after, 10) + "&limit=" + strconv.Itoa(limit)
	err := c.do(ctx, call{method: http.MethodGet, path: messagesPath(log) + query, receipt: receipt, wait: wait}, &p)
	if err == nil && p.Log != log {
		err = fmt.Errorf("a page of the log %q, of the log %.40q was asked for: %w", p.Log, log, errProtocol)
	}
	return p, err
}

// appendRequest is an append that is ready to be sent, any number of times.
type appendRequest struct {
	call  call
	lines int
}

// singleAppend makes the request for one message.
func singleAppend(log string, body []byte, contentType, key string) appendRequest {
	return appendRequest{call{method: http.MethodPost, path: messagesPath(log), contentType: contentType, body: body, key: key}, 1}
}

// manyAppend makes the request for many messages.
func manyAppend(log string, lines []line) (appendRequest, error) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	for i := range lines {
		if err := encoder.Encode(&lines[i]); err != nil {
			return appendRequest{}, fmt.Errorf("encoding a message: %w", err)
		}
	}
	what := call{method: http.MethodPost, path: messagesPath(log), contentType: "application/x-ndjson", body: body.Bytes()}
	return appendRequest{what, len(lines)}, nil
}

// append sends an append and returns its receipt.
func (c *client) append(ctx context.Context, a appendRequest) (receipt string, err error) {
	var s status
	if err := c.do(ctx, a.call, &s); err != nil {
		return "", err
	}
	if s.Receipt == "" || s.Count != a.lines {
		return "", fmt.Errorf("an append of %d messages is accepted with the receipt %.20q and the count %d: %w", a.lines, s.Receipt,
			s.Count, errProtocol)
	}
	return s.Receipt, nil
}

// clear clears the log.
func (c *client) clear(ctx context.Context, log string) (status, error) {
	return c.status(ctx, call{method: http.MethodDelete, path: messagesPath(log), wait: true})
}

// barrier asks for a barrier through every partition.
func (c *client) barrier(ctx context.Context) (status, error) {
	return c.status(ctx, call{method: http.MethodPost, path: "/v1/barriers", wait: true})
}

// receipt asks what has become of a receipt's writes.
func (c *client) receipt(ctx context.Context, receipt string) (status, error) {
	return c.status(ctx, call{method: http.MethodGet, path: "/v1/receipts/" + url.PathEscape(receipt), wait: true})
}

func (c *client) status(ctx context.Context, what call) (status, error) {
	var s status
	err := c.do(ctx, what, &s)
	if err == nil && s.Receipt == "" {
		err = fmt.Errorf("%s %s answers with no receipt: %w", what.method, what.path, errProtocol)
	}
	return s, err
}

// isThrough says whether a state says that everything is persisted.
func (s *status) isThrough() bool { return s.State == "persisted" || s.State == "reached" }
