package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/internal/jsonstring"
)

// manyType is the content type of a request of many messages.
const manyType = "application/x-ndjson"

// manyTypes are the names that are in use for it: there is no registered one.
var manyTypes = []string{
	manyType, "application/ndjson", "application/jsonl", "application/x-jsonl", "application/jsonlines", "application/x-jsonlines",
	"application/json-lines", "application/x-json-lines",
}

// append takes one message in, or many.
func (h *handler) append(w http.ResponseWriter, r *request) error {
	log, err := r.logName()
	if err != nil {
		return err
	}
	if err := checkEncoding(w, r); err != nil {
		return err
	}
	key, err := idempotencyKey(r.Header[idempotencyHeader])
	if err != nil {
		return err
	}
	if err := r.oneType(); err != nil {
		return err
	}
	read, err := readerOf(r)
	if err != nil {
		return err
	}
	common := drainmark.Record{Kind: drainmark.Append, Log: log, Key: key, Principal: principalOf(r)}
	if common.Headers, err = drainmark.NewHeaders(r.trace()...); err != nil {
		return err
	}
	if err := h.chargeLetters(r); err != nil {
		return err
	}
	records, release, err := read(h, r, common)
	defer release()
	if err != nil {
		return err
	}
	if len(records) == 0 { // an empty batch
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if err := h.chargeAppend(r, log, records); err != nil {
		return err
	}
	ctx, cancel := h.publishing(r)
	defer cancel()
	receipt, err := h.service.Append(ctx, log, records)
	if err != nil {
		return afterPublish(receipt, err)
	}
	h.lines.accepted()
	done := acceptance{count: len(records), done: http.StatusCreated}
	if len(records) == 1 {
		done.id = &receipt.Spans[0]
	} else {
		done.marks = receipt.Spans
	}
	return h.accepted(w, r, receipt, done)
}

// readOne makes a record whose body is the request's.
func (h *handler) readOne(r *request, common drainmark.Record) ([]drainmark.Record, func(), error) {
	common.ContentType = drainmark.DefaultContentType
	if given, ok := r.Header["Content-Type"]; ok {
		common.ContentType = given[0]
		if err := checkText("Content-Type", given[0], maxContentType); err != nil {
			return nil, func() {}, err
		}
	}
	own, err := r.ownHeaders()
	if err == nil && len(own) > 0 {
		common.Headers, err = headersOf(own, r.trace())
	}
	if err != nil {
		return nil, func() {}, err
	}
	body, release, err := h.readBody(r, h.limits.Message, "the message")
	common.Body = body
	return []drainmark.Record{common}, release, err
}

// readMany makes a record of each line, or none if there is a fault in any.
func (h *handler) readMany(r *request, common drainmark.Record) ([]drainmark.Record, func(), error) {
	if err := r.noOwnHeaders("in a request of many messages, each line has its own headers"); err != nil {
		return nil, func() {}, err
	}
	body, release, err := h.readBody(r, h.limits.Many, "the request of many messages")
	if err != nil {
		return nil, release, err
	}
	m := many{key: common.Key, message: h.limits.Message, lines: h.limits.Lines, record: common, trace: r.trace()}
	records, err := m.decode(body)
	return records, release, err
}

// publish publishes a record of another kind than append, and answers for it.
func (h *handler) publish(w http.ResponseWriter, r *request, record drainmark.Record) error {
	var err error
	if record.Headers, err = drainmark.NewHeaders(r.trace()...); err != nil {
		return err
	}
	record.Principal = principalOf(r)
	ctx, cancel := h.publishing(r)
	defer cancel()
	receipt, err := h.service.Publish(ctx, record)
	if err != nil {
		return afterPublish(receipt, err)
	}
	return h.accepted(w, r, receipt, acceptance{done: http.StatusOK})
}

// acceptance is the answer to accepted writes.
type acceptance struct {
	count int              // 0: not to be told
	id    *drainmark.Span  // the mark of the one message, nil if it is not to be told
	marks []drainmark.Span // those of many messages, none if they are not to be told
	done  int              // the status if they turn out to be persisted
	state string
	now   backend.Status // after a wait: why they are rejected, and which
}

// accepted answers for writes that the broker has confirmed. It waits as the request prefers. The writes are accepted
// whatever the outcome of the wait.
func (h *handler) accepted(w http.ResponseWriter, r *request, receipt drainmark.Receipt, a acceptance) error {
	status := http.StatusAccepted
	a.state = "accepted"
	if r.wait > 0 {
		switch now, err := h.status(r, receipt); {
		case err != nil:
			h.logger.Debug("waiting for an accepted write", "error", err)
		case now.State == backend.Persisted:
			status, a.state = a.done, string(now.State)
		case now.State == backend.Rejected:
			a.state, a.now = string(now.State), now
		}
	}
	text := receipt.String()
	w.Header().Set(receiptHeader, text)
	body, err := a.json(text)
	if err != nil {
		return err
	}
	h.respond(w, status, "application/json", body)
	return nil
}

func (a *acceptance) json(receipt string) ([]byte, error) {
	b := make([]byte, 0, len(receipt)+len(a.now.Reason)+160)
	b = jsonstring.Append(append(b, `{"receipt":`...), receipt)
	if a.count > 0 {
		b = strconv.AppendInt(append(b, `,"count":`...), int64(a.count), 10)
	}
	if a.id != nil {
		mark := drainmark.Mark{Partition: a.id.Partition, Producer: a.id.Producer, Sequence: a.id.First}
		b = append(appendMark(append(b, `,"id":"`...), mark), '"')
	}
	b = appendMarks(b, a.marks)
	b = jsonstring.Append(append(b, `,"state":`...), a.state)
	if a.now.Reason != "" {
		b = jsonstring.Append(append(b, `,"reason":`...), a.now.Reason)
	}
	if rejected := newRejected(a.now); rejected != nil {
		which, err := json.Marshal(rejected)
		if err != nil {
			return nil, fmt.Errorf("writing which records are rejected: %w", err)
		}
		b = append(append(b, `,"rejected":`...), which...)
	}
	return append(b, '}', '\n'), nil
}

// appendMarks appends the member that has marks as spans, if there are any. Their text needs no escapes.
func appendMarks(b []byte, spans []drainmark.Span) []byte {
	for i, span := range spans {
		if i == 0 {
			b = append(b, `,"marks":["`...)
		} else {
			b = append(b, `,"`...)
		}
		b = appendMark(b, drainmark.Mark{Partition: span.Partition, Producer: span.Producer, Sequence: span.First})
		b = append(strconv.AppendUint(append(b, ".."...), span.Last, 10), '"')
	}
	if len(spans) > 0 {
		b = append(b, ']')
	}
	return b
}

// status says where a receipt stands, after the wait that the request prefers.
func (h *handler) status(r *request, receipt drainmark.Receipt) (backend.Status, error) {
	now, err := waiting(h, r, func(ctx context.Context, wait time.Duration) (backend.Status, error) {
		return h.service.Status(ctx, receipt, wait)
	})
	return r.told(now), err
}
