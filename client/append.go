package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// manyType is the content type of a request of many messages.
const manyType = "application/x-ndjson"

func logPath(log string) string { return "/v1/logs/" + url.PathEscape(log) }

func messagesPath(log string) string { return logPath(log) + "/messages" }

// Append appends one message to a log, creating the log if needed. When it returns without an error, the message is on
// the durable queue, and the Status has its receipt: the state is Accepted, or after a wait Persisted if it is in the
// database by then. If it turns out within the wait that the message can never be, there is a *RejectedError in the
// chain of the error, and the Status too says Rejected. Without a wait nobody knows yet: see Wait.
//
// If calls are made again (Config.Retry), a message without a key gets a random one, so that it is appended once
// however often it is sent. Without retries it gets none.
//
// If it fails, NothingDone says whether the message certainly is not in the log. If that is false, the error's Receipt,
// if it has one, tells later. Otherwise send the message again with the same key, which it must have had before.
func (c *Client) Append(ctx context.Context, log string, m Message, wait time.Duration) (Status, error) {
	if meansMore(m.ContentType) || !m.fitsHTTP() {
		// Alone, its body would be taken for many messages, or for CloudEvents, or HTTP could not carry its headers.
		return c.AppendMany(ctx, log, []Message{m}, wait)
	}
	what := call{method: http.MethodPost, path: messagesPath(log), wait: wait, headers: m.Headers}
	m, err := c.encode(ctx, log, m)
	if err != nil {
		return Status{}, what.unsent("", err)
	}
	what.contentType = m.ContentType
	what.body = bytes.Clone(m.Body) // net/http may still read it when the call has returned
	key := m.Key
	if key == "" && c.retry.on() {
		key = rand.Text()
	}
	what.setKey(key)
	return c.append(ctx, &what, 1)
}

// AppendMany appends messages in their order, with one request and one receipt. Others' messages can stand between them
// only if there are more than 1,000, or megabytes. The API takes up to 10,000 messages and 8 MiB at once unless it was
// told otherwise. Keys, errors and the wait are as with Append, but a request that failed without certainty may have
// left any number of the first messages in the log.
func (c *Client) AppendMany(ctx context.Context, log string, messages []Message, wait time.Duration) (Status, error) {
	what := call{method: http.MethodPost, path: messagesPath(log), contentType: manyType, wait: wait}
	if len(messages) == 0 {
		return Status{}, what.unsent(Invalid, errors.New("no messages to append"))
	}
	messages, err := c.encodeAll(ctx, log, messages)
	if err != nil {
		return Status{}, what.unsent("", err)
	}
	size, keyed := 0, true
	for i := range messages {
		size += len(messages[i].Body) + len(messages[i].ContentType) + len(messages[i].Key) + 64
		for name, value := range messages[i].Headers {
			size += len(name) + len(value) + len(`"":"",`)
		}
		keyed = keyed && messages[i].Key != ""
	}
	what.body = make([]byte, 0, size)
	for i := range messages {
		if what.body, err = appendLine(what.body, &messages[i]); err != nil {
			return Status{}, what.unsent(Invalid, fmt.Errorf("message %d of %d: %w", i+1, len(messages), err))
		}
	}
	switch {
	case keyed:
		what.repeatable = true
	case c.retry.on():
		what.setKey(rand.Text()) // those without a key get it with their number behind it
	}
	return c.append(ctx, &what, len(messages))
}

// keyEscapes makes what is in a string of RFC 9651 of a key.
var keyEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// setKey gives the call an idempotency key, unless it is "".
func (what *call) setKey(key string) {
	if key == "" {
		return
	}
	what.key = `"` + keyEscapes.Replace(key) + `"`
	what.repeatable = true
}

func (c *Client) append(ctx context.Context, what *call, count int) (Status, error) {
	var accepted Status
	a, err := c.ask(ctx, what, &accepted)
	if err == nil && accepted.Count != uint64(count) {
		err = what.misunderstood(&a, "%d messages were sent and %d accepted", count, accepted.Count)
	}
	if err == nil {
		err = accepted.check(what, &a)
	}
	if err != nil {
		return Status{}, err
	}
	if accepted.State == Rejected {
		return accepted, what.rejected(&a, accepted)
	}
	return accepted, nil
}

// manyNames are the names of that type that the API takes, behind application/.
var manyNames = []string{"x-ndjson", "ndjson", "jsonl", "x-jsonl", "jsonlines", "x-jsonlines", "json-lines", "x-json-lines"}

// meansMore says whether a content type, of a request, says how its body is made into messages: that of a request of many, by
// whatever name, and those of CloudEvents.
func meansMore(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	kind, name, _ := strings.Cut(strings.ToLower(strings.TrimSpace(media)), "/")
	return kind == "application" && (slices.Contains(manyNames, name) || strings.HasPrefix(name, "cloudevents"))
}

// Clear removes the messages of a log that were accepted before it. Positions go on behind them. The state is Accepted,
// or after a wait Persisted once it is done. It is made again only if it was certainly not done: a second one would
// take with it what was appended in between.
func (c *Client) Clear(ctx context.Context, log string, wait time.Duration) (Status, error) {
	return c.status(ctx, &call{method: http.MethodDelete, path: messagesPath(log), wait: wait})
}

// Trim removes the messages of a log up to a position, or all if it is shorter. Otherwise it is as Clear. A second one
// removes what was appended in between up to that position, which is nothing unless the log was shorter.
func (c *Client) Trim(ctx context.Context, log string, through uint64, wait time.Duration) (Status, error) {
	path := logPath(log) + "/trim?through=" + strconv.FormatUint(through, 10)
	return c.status(ctx, &call{method: http.MethodPost, path: path, wait: wait})
}

// Erase erases the message at a position: that, its ID and times stay, and what it held is gone. Nothing happens if there is
// no such message. Otherwise it is as Clear. A second one erases what came to that position in between, if anything did.
func (c *Client) Erase(ctx context.Context, log string, position uint64, wait time.Duration) (Status, error) {
	path := messagesPath(log) + "/" + strconv.FormatUint(position, 10)
	return c.status(ctx, &call{method: http.MethodDelete, path: path, wait: wait})
}

// Delete deletes a log: it is NotFound and in no list until something is written to it again, and positions go on then. It
// is as Clear otherwise.
func (c *Client) Delete(ctx context.Context, log string, wait time.Duration) (Status, error) {
	return c.status(ctx, &call{method: http.MethodDelete, path: logPath(log), wait: wait})
}
