package api

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/auth/quota"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/backend/api/cloudevents"
)

// reconnectAfter is how long a client shall wait before it comes back, in milliseconds.
const reconnectAfter = 2000

// These comments say how an event stream ends. They are for people, because clients only see that it ends, and come
// back.
const (
	endTooSlow  = ": dropped, too slow; resume with Last-Event-ID\n"
	endStopping = ": the server is stopping; resume with Last-Event-ID\n"
	endFailed   = ": the server cannot go on; resume with Last-Event-ID\n"
)

// events follows a log with server-sent events.
func (h *handler) events(w http.ResponseWriter, r *request) error {
	log, err := r.logName()
	if err != nil {
		return err
	}
	cloud, err := r.format()
	if err != nil {
		return err
	}
	after, err := h.followFrom(r, log)
	if err != nil {
		return h.putOff(w, r, "", err)
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(h.stopping, cancel)()
	id := "id: " + strconv.FormatUint(after, 10) + "\n"
	if r.Method == http.MethodHead {
		beginEvents(w)
		return nil
	}
	if err := cmp.Or(r.use.Hold(quota.Streams, 1), r.use.Follow(log)); err != nil {
		return h.putOff(w, r, id, err)
	}
	subscription, err := h.service.Subscribe(ctx, log, after)
	if err != nil {
		return h.putOff(w, r, id, err)
	}
	defer subscription.Close()
	subscription.Share(func(ctx context.Context, bytes int64) error { return r.use.Await(ctx, quota.StreamBytes, bytes) })
	beginEvents(w)
	h.metrics.subscribers.Inc()
	defer h.metrics.subscribers.Dec()
	s := stream{w: w, control: http.NewResponseController(w), limit: h.limits.Write, log: log, cloud: cloud}
	s.encoder.full, s.encoder.oneLine = s.write, true
	// With the id, who loses the stream before its first event comes back to where it began.
	begin := "retry: " + strconv.Itoa(reconnectAfter) + "\n" + id + "\n"
	if end, err := s.follow(ctx, begin, subscription, h.limits.Heartbeat); end != "" {
		if end == endFailed {
			h.lines.streams.Log("error", err)
		}
		s.say(end + comeBack() + "\n") // if it fails the client sees the end of the stream all the same
	}
	return nil
}

// beginEvents begins an answer that is an event stream.
func beginEvents(w http.ResponseWriter) {
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
}

// comeBack tells a client when to come back: not all at the same time.
func comeBack() string {
	return "retry: " + strconv.Itoa(reconnectAfter+rand.IntN(2*reconnectAfter)) + "\n"
}

// putOff answers instead of a stream that cannot be begun now. A browser's EventSource gives up for ever when its answer
// is an error. So who wants nothing but events, and may come back, gets a stream that is over at once: the reason as a
// comment, when to come back, and, where it is known, from where.
func (h *handler) putOff(w http.ResponseWriter, r *request, id string, err error) error {
	err = h.interpreted(err)
	if problems[drainmark.KindOf(err)].retry == 0 || r.Method == http.MethodHead || !acceptsEvents(r.Header["Accept"]) {
		return err
	}
	h.metrics.putOff.Inc()
	beginEvents(w)
	s := stream{w: w, control: http.NewResponseController(w), limit: h.limits.Write}
	s.say(": " + strings.NewReplacer("\r", " ", "\n", " ").Replace(err.Error()) + "\n" + comeBack() + id + "\n")
	return nil
}

// acceptsEvents says whether an Accept header names event streams.
func acceptsEvents(accept []string) bool {
	for _, one := range names(accept) {
		kind, _, _ := strings.Cut(one, ";")
		if strings.EqualFold(strings.TrimSpace(kind), "text/event-stream") {
			return true
		}
	}
	return false
}

// format says whether the parameter of that name asks for CloudEvents.
func (r *request) format() (cloud bool, err error) {
	q, err := r.query()
	if err != nil || !q.Has("format") {
		return false, err
	}
	if format := q.Get("format"); format != "cloudevents" {
		return false, invalid("format is %.40q: it can be cloudevents, or left out", format)
	}
	return true, nil
}

// followFrom returns the position behind which to begin: that of the client's last event, or of the parameter after,
// or of the log's last message.
func (h *handler) followFrom(r *request, log string) (uint64, error) {
	q, err := r.query()
	if err != nil {
		return 0, err
	}
	after, err := number(q, "after", 0, maxPosition, 0)
	if err != nil {
		return 0, err
	}
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		return inRange("Last-Event-ID", last, 0, maxPosition)
	}
	if q.Has("after") {
		return after, nil
	}
	ctx, cancel := context.WithDeadline(r.Context(), r.began.Add(h.limits.Request))
	defer cancel()
	page, err := h.service.Messages(ctx, log, maxPosition, 1, nil, 0)
	defer page.Release()
	if drainmark.KindOf(err) == drainmark.KindNotFound {
		return 0, nil // nobody has written to it yet: whatever comes is new
	}
	return page.Log.LastPosition, err
}

// stream writes events to one client. Each write has its own deadline. While it waits for events it holds no buffer.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	limit   time.Duration
	encoder encoder
	log     string
	cloud   bool  // messages are shown as CloudEvents
	failed  error // of a write
}

// follow writes what comes, and comments when nothing does, until something ends it. It returns what is left to tell
// the client, which is nothing when the client is gone or does not read.
func (s *stream) follow(ctx context.Context, begin string, from backend.Subscription, heartbeat time.Duration) (end string, err error) {
	s.say(begin)
	for s.failed == nil {
		messages, err := nextWithin(ctx, from, heartbeat)
		switch {
		case err == nil:
			s.events(messages)
		case errors.Is(err, backend.ErrTooSlow):
			return endTooSlow, err
		case ctx.Err() != nil:
			return endStopping, err
		case errors.Is(err, context.DeadlineExceeded):
			s.say(": heartbeat\n\n")
		default:
			return endFailed, err
		}
	}
	return "", s.failed
}

func nextWithin(ctx context.Context, from backend.Subscription, limit time.Duration) ([]drainmark.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return from.Next(ctx)
}

// events writes messages as events.
func (s *stream) events(messages []drainmark.Message) {
	buffer := getBuffer()
	defer putBuffer(buffer)
	dst := (*buffer)[:0]
	var event cloudevents.Event
	for i := range messages {
		dst = strconv.AppendUint(append(dst, "id: "...), messages[i].Position, 10)
		dst = append(dst, "\nevent: message\ndata: "...)
		if s.cloud {
			event.SetMessage(s.log, &messages[i])
			dst = s.encoder.cloudEvent(dst, &event)
		} else {
			dst = s.encoder.message(dst, &messages[i])
		}
		dst = s.encoder.room(append(dst, "\n\n"...))
	}
	*buffer = s.write(dst)
	s.flush()
}

// say writes a few lines.
func (s *stream) say(lines string) {
	s.write([]byte(lines))
	s.flush()
}

// write hands a piece over within the time that a client has, and returns the buffer for the next one.
func (s *stream) write(piece []byte) []byte {
	if s.failed == nil {
		_ = s.control.SetWriteDeadline(time.Now().Add(s.limit)) // see respond
		_, s.failed = s.w.Write(piece)
	}
	return piece[:0]
}

// flush sends everything to the client.
func (s *stream) flush() {
	if s.failed == nil {
		s.failed = s.control.Flush()
		_ = s.control.SetWriteDeadline(time.Time{}) // HTTP/2 ends a stream whose deadline passes while it is silent
	}
}
