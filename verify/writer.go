package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
)

const (
	readBackEvery = 50  // requests of a client, and its first one
	resendEvery   = 32  // requests of a client
	readBackPage  = 500 // messages
)

// writer is one client: it sends its messages one request after the other.
type writer struct {
	*runner
	client int
	random *rand.Rand
}

// write appends all of the client's messages, until ctx ends. It fails when an append is refused for good: then none
// would be accepted.
func (w *writer) write(ctx context.Context) error {
	total := w.history.messagesOf(w.client)
	for request, first := 0, 1; first <= total && ctx.Err() == nil; request, first = request+1, first+w.config.Batch {
		if err := w.request(ctx, request, first, min(first+w.config.Batch-1, total)); err != nil {
			return err
		}
	}
	return nil
}

// request appends the messages first to last. Now and then it sends them once more though they were accepted, as a
// client does that has lost the answer, or reads the last one back.
func (w *writer) request(ctx context.Context, request, first, last int) error {
	a, err := w.compose(first, last)
	if err != nil {
		return err
	}
	after := w.frontier.Load()
	receipt, err := w.send(ctx, a, first, last)
	if receipt == "" {
		return err
	}
	if request%resendEvery == resendEvery/2 {
		if _, err := w.api.append(ctx, a); err == nil {
			w.resent.Add(1)
		}
	}
	// Not all clients at once: what one reads spares the others to read so far.
	turn := w.client * readBackEvery / w.history.clients
	if request == 0 || (request+turn)%readBackEvery == 0 {
		return w.readBack(ctx, w.history.index(w.client, last), after, receipt)
	}
	return nil
}

// compose makes the request for the messages first to last, each with its key.
func (w *writer) compose(first, last int) (appendRequest, error) {
	lines := make([]line, 0, last-first+1)
	for number := first; number <= last; number++ {
		m := w.history.index(w.client, number)
		body, contentType := w.history.bodyOf(w.run, m, w.config.Size, w.random)
		key := w.history.identityOf(w.run, m)
		if w.config.Batch == 1 {
			return singleAppend(w.config.Log, body, contentType, key), nil
		}
		l := line{ContentType: contentType, Key: key}
		if contentType == binaryType {
			l.BodyBase64 = body
		} else {
			l.Body = string(body)
		}
		lines = append(lines, l)
	}
	return manyAppend(w.config.Log, lines)
}

// send sends an append until it is accepted, and returns its receipt; none if ctx or the patience ended first.
func (w *writer) send(ctx context.Context, a appendRequest, first, last int) (receipt string, err error) {
	call := appendCall{sent: w.since(), outcome: refused}
	defer func() {
		for number := first; number <= last; number++ {
			w.history.appends[w.history.index(w.client, number)] = call
		}
		if call.outcome == done {
			w.accepted.Add(int64(a.lines))
		} else {
			w.gaveUp.Add(int64(a.lines))
		}
	}()
	for b := (backoff{}); ; {
		receipt, err := w.api.append(ctx, a)
		if err == nil {
			call.outcome, call.answered = done, w.since()
			return receipt, nil
		}
		if !nothingDone(err) {
			call.outcome = unknown
		}
		if !worthRetrying(err) {
			return "", fmt.Errorf("appending %s: %w", w.history.identityOf(w.run, w.history.index(w.client, first)), err)
		}
		if w.since()-call.sent >= w.config.Patience || b.wait(ctx, err) != nil {
			return "", nil
		}
		w.retries.Add(1)
	}
}

// readBack reads with the receipt of a message, and looks whether it is in the state that is shown: behind a position
// that it must be behind, and up to the last one of that state. Where that is more than a page, it looks from the end:
// a read waits no longer than for its own receipt, so the message is one of the last.
func (w *writer) readBack(ctx context.Context, m message, after uint64, receipt string) error {
	back := readBack{message: m, asked: w.since(), after: after}
	p, err := w.lookFor(ctx, &back, after, receipt)
	if err == nil {
		back.last = p.LastPosition
		w.saw(back.last)
		if n := len(p.Messages); n > 0 {
			after = p.Messages[n-1].Position
		}
		for end := back.last; err == nil && back.found == 0 && end > after; {
			end = max(after, end-min(end, readBackPage))
			_, err = w.lookFor(ctx, &back, end, receipt)
		}
	}
	switch status := statusOf(err); {
	case errors.Is(err, errProtocol), status >= 400 && status < 500 && !worthRetrying(err):
		return fmt.Errorf("reading back %s: %w", w.history.identityOf(w.run, m), err)
	case err != nil:
		back.refused = true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history.readBacks = append(w.history.readBacks, back)
	return nil
}

// lookFor looks for a message on the page behind a position.
func (w *writer) lookFor(ctx context.Context, back *readBack, after uint64, receipt string) (page, error) {
	p, err := w.api.messages(ctx, w.config.Log, after, readBackPage, receipt, true)
	for i := range p.Messages {
		if m, _, _ := w.history.recognise(w.run, p.Messages[i].bytes(), p.Messages[i].ContentType); m == back.message {
			back.found = p.Messages[i].Position
			break
		}
	}
	return p, err
}
