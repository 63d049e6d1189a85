package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
)

// eventChunk is how many bytes of events are written at once, so that each write has its own time.
const eventChunk = 64 << 10

// reconnectAfter is how long a client shall wait before it comes back, in milliseconds.
const reconnectAfter = "2000"

// How an event stream ends, as comments: for people, because clients only see that it ends, and come back.
const (
	endTooSlow  = ": dropped, too slow; resume with Last-Event-ID\n\n"
	endStopping = ": the server is stopping; resume with Last-Event-ID\n\n"
	endFailed   = ": the server cannot go on; resume with Last-Event-ID\n\n"
)

// events follows a log with server-sent events.
func (h *handler) events(w http.ResponseWriter, r *request) error {
	log, err := r.logName()
	if err != nil {
		return err
	}
	after, err := h.followFrom(r, log)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(h.stopping, cancel)()
	var subscription backend.Subscription
	if r.Method != http.MethodHead {
		if subscription, err = h.service.Subscribe(ctx, log, after); err != nil {
			return err
		}
		defer subscription.Close()
	}
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	if subscription == nil {
		return nil
	}
	h.metrics.subscribers.Inc()
	defer h.metrics.subscribers.Dec()
	s := stream{w: w, control: http.NewResponseController(w), limit: h.limits.Write}
	if end, err := s.follow(ctx, subscription, h.limits.Heartbeat); end != "" {
		if end == endFailed {
			h.lines.streams.Log("error", err)
		}
		s.buffer = append(s.buffer[:0], end...)
		_ = s.flush() // if it fails the client sees the end of the stream all the same
	}
	return nil
}

// followFrom returns the position behind which to begin: that of the client's last event, or of the parameter after,
// or of the log's last message.
func (h *handler) followFrom(r *request, log string) (uint64, error) {
	q, err := r.query()
	if err != nil {
		return 0, err
	}
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		return inRange("Last-Event-ID", last, 0, maxPosition)
	}
	if q.Has("after") {
		return number(q, "after", 0, maxPosition, 0)
	}
	ctx, cancel := context.WithDeadline(r.Context(), r.began.Add(h.limits.Request))
	defer cancel()
	page, err := h.service.Messages(ctx, log, maxPosition, 1, nil, 0)
	if drainmark.KindOf(err) == drainmark.KindNotFound {
		return 0, nil // nobody has written to it yet: whatever comes is new
	}
	return page.Log.LastPosition, err
}

// stream writes events to one client. Each write has its own deadline.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	limit   time.Duration
	encoder encoder
	buffer  []byte
}

// follow writes what comes, and comments when nothing does, until something ends it. It returns what is left to tell
// the client, which is nothing when the client is gone or does not read.
func (s *stream) follow(ctx context.Context, from backend.Subscription, heartbeat time.Duration) (end string, err error) {
	s.buffer = append(s.buffer, "retry: "+reconnectAfter+"\n\n"...)
	for {
		if err := s.flush(); err != nil {
			return "", err
		}
		messages, err := nextWithin(ctx, from, heartbeat)
		switch {
		case err == nil:
			if err := s.events(messages); err != nil {
				return "", err
			}
		case errors.Is(err, backend.ErrTooSlow):
			return endTooSlow, err
		case ctx.Err() != nil:
			return endStopping, err
		case errors.Is(err, context.DeadlineExceeded):
			s.buffer = append(s.buffer, ": heartbeat\n\n"...)
		default:
			return endFailed, err
		}
	}
}

func nextWithin(ctx context.Context, from backend.Subscription, limit time.Duration) ([]drainmark.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return from.Next(ctx)
}

// events writes messages as events, and leaves the last ones in the buffer for the flush.
func (s *stream) events(messages []drainmark.Message) error {
	for i := range messages {
		s.buffer = strconv.AppendUint(append(s.buffer, "id: "...), messages[i].Position, 10)
		s.buffer = append(s.buffer, "\nevent: message\ndata: "...)
		s.buffer = s.encoder.message(s.buffer, &messages[i])
		s.buffer = append(s.buffer, "\n\n"...)
		if len(s.buffer) < eventChunk {
			continue
		}
		if err := s.write(); err != nil {
			return err
		}
	}
	return nil
}

// write hands the buffer over within the time that a client has.
func (s *stream) write() error {
	_ = s.control.SetWriteDeadline(time.Now().Add(s.limit)) // see respond
	_, err := s.w.Write(s.buffer)
	if cap(s.buffer) > maxKeptBuffer {
		s.buffer = nil
	}
	s.buffer = s.buffer[:0]
	return err
}

// flush sends everything to the client.
func (s *stream) flush() error {
	if err := s.write(); err != nil {
		return err
	}
	err := s.control.Flush()
	_ = s.control.SetWriteDeadline(time.Time{}) // HTTP/2 ends a stream whose deadline passes while it is silent
	return err
}
