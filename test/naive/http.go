package naive

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/redis/go-redis/v9"
)

const (
	maxBody   = 1 << 20 // bytes of a request
	maxPage   = 1000    // messages
	lookEvery = time.Second
)

// message is an entry of a log's list, and what travels in the queue.
type message struct {
	Position    int     `json:"position"` // the index in the list: it begins again at 1 after a clear
	ID          string  `json:"id"`
	Body        *string `json:"body,omitempty"`
	BodyBase64  []byte  `json:"body_base64,omitempty"` // in place of Body, if that is not text
	ContentType string  `json:"content_type"`

	Headers map[string]string `json:"headers,omitempty"`

	AcceptedAt  time.Time `json:"accepted_at"`
	PersistedAt time.Time `json:"persisted_at"`
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	if s.config.Role == Consumer {
		return mux
	}
	mux.HandleFunc("POST /v1/logs/{log}/messages", s.append)
	mux.HandleFunc("GET /v1/logs/{log}/messages", s.read)
	mux.HandleFunc("DELETE /v1/logs/{log}/messages", s.clear)
	mux.HandleFunc("GET /v1/logs/{log}/events", s.events)
	mux.HandleFunc("GET /v1/receipts/{receipt}", s.receipt)
	mux.HandleFunc("POST /v1/barriers", s.barrier)
	mux.HandleFunc("GET /v1/backlog", s.backlog)
	return mux
}

// append publishes messages, one after the other. Idempotency keys are for another day: a request that is sent again
// appends again.
func (s *Server) append(w http.ResponseWriter, r *http.Request) {
	messages, err := received(http.MaxBytesReader(w, r.Body, maxBody), r.Header)
	if err != nil {
		refuse(w, http.StatusBadRequest, "invalid", fmt.Errorf("reading a request, of %d bytes at most: %w", maxBody, err))
		return
	}
	for i := range messages {
		text, err := json.Marshal(&messages[i])
		if err == nil {
			err = s.channel.PublishWithContext(r.Context(), "", s.config.Queue, false, false, amqp.Publishing{
				Type: r.PathValue("log"), ContentType: "application/json", DeliveryMode: amqp.Persistent, Body: text,
			})
		}
		if err != nil { // the broker has those before, and perhaps this one: the status says that it has none
			refuse(w, http.StatusServiceUnavailable, "unavailable", fmt.Errorf("publishing: %w", err))
			return
		}
	}
	receipt := rand.Text() // it stands for nothing
	w.Header().Set("Drainmark-Receipt", receipt)
	answer(w, http.StatusAccepted, map[string]any{"receipt": receipt, "count": len(messages), "state": "accepted"})
}

// received reads the messages of a request: one, or one a line.
func received(body io.Reader, header http.Header) (messages []message, err error) {
	contentType := header.Get("Content-Type")
	if contentType != "application/x-ndjson" {
		all, err := io.ReadAll(body)
		m := message{ID: rand.Text(), ContentType: contentType, AcceptedAt: time.Now().UTC()}
		if text := string(all); utf8.ValidString(text) && !strings.Contains(text, "\x00") {
			m.Body = &text
		} else {
			m.BodyBase64 = all
		}
		for field, values := range header {
			if name, ok := strings.CutPrefix(field, "Drainmark-Header-"); ok && m.Headers == nil {
				m.Headers = map[string]string{strings.ToLower(name): values[0]}
			} else if ok {
				m.Headers[strings.ToLower(name)] = values[0]
			}
		}
		return []message{m}, err
	}
	for lines := json.NewDecoder(body); ; {
		m := message{}
		if err := lines.Decode(&m); err == io.EOF {
			return messages, nil
		} else if err != nil {
			return nil, err
		}
		m.ID, m.AcceptedAt = rand.Text(), time.Now().UTC()
		messages = append(messages, m)
	}
}

// read returns a page of whatever the replica has. It knows nothing about receipts: it may be from before one's own
// write.
func (s *Server) read(w http.ResponseWriter, r *http.Request) {
	log := r.PathValue("log")
	list, err := s.load(r.Context(), s.replica, log)
	switch {
	case errors.Is(err, redis.Nil):
		refuse(w, http.StatusNotFound, "not-found", errors.New("nobody has written to this log"))
		return
	case err != nil:
		refuse(w, http.StatusServiceUnavailable, "unavailable", err)
		return
	}
	number(list)
	from := min(parameter(r, "after", 0), len(list))
	to := min(from+min(parameter(r, "limit", 100), maxPage), len(list))
	answer(w, http.StatusOK, map[string]any{
		"log": log, "messages": list[from:to], "last_position": len(list), "count": len(list),
	})
}

// clear empties the list at once. Messages in the queue come behind it, though they were accepted before, and a
// consumer that is just writing brings the whole list back.
func (s *Server) clear(w http.ResponseWriter, r *http.Request) {
	if err := s.master.Set(r.Context(), listKey(r.PathValue("log")), "[]", 0).Err(); err != nil {
		refuse(w, http.StatusServiceUnavailable, "unavailable", err)
		return
	}
	answer(w, http.StatusAccepted, map[string]any{"receipt": rand.Text(), "state": "accepted"})
}

// events looks once a second. After a clear a follower sees nothing until the list has outgrown what it has seen.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	after := parameter(r, "after", -1)
	if n, err := strconv.ParseUint(r.Header.Get("Last-Event-ID"), 10, 31); err == nil {
		after = int(n)
	}
	w.Header().Set("Content-Type", "text/event-stream")
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		list, err := s.load(r.Context(), s.replica, r.PathValue("log"))
		if err != nil && !errors.Is(err, redis.Nil) {
			return
		}
		number(list)
		if after < 0 {
			after = len(list)
		}
		for ; after < len(list); after++ {
			text, _ := json.Marshal(&list[after]) // which came from JSON
			_, _ = fmt.Fprintf(w, "id: %d\nevent: message\ndata: %s\n\n", after+1, text)
		}
		if http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Server) receipt(w http.ResponseWriter, r *http.Request) {
	s.drained(w, r.PathValue("receipt"), "persisted", http.StatusOK)
}

func (s *Server) barrier(w http.ResponseWriter, _ *http.Request) {
	s.drained(w, rand.Text(), "reached", http.StatusAccepted)
}

// drained says yes when the queue's length is 0. The length does not count what a consumer holds, what the broker has
// not got yet, or what the replica lacks.
func (s *Server) drained(w http.ResponseWriter, receipt, yes string, notYet int) {
	n, err := s.queued()
	switch {
	case err != nil:
		refuse(w, http.StatusServiceUnavailable, "unavailable", err)
	case n == 0:
		answer(w, http.StatusOK, map[string]any{"receipt": receipt, "state": yes})
	default:
		answer(w, notYet, map[string]any{"receipt": receipt, "state": "pending"})
	}
}

// queued asks for the queue's length, which is the number of messages that are ready to be delivered.
func (s *Server) queued() (int, error) {
	s.asking.Lock()
	defer s.asking.Unlock()
	q, err := s.channel.QueueDeclarePassive(s.config.Queue, true, false, false, false, nil)
	if err != nil {
		return 0, fmt.Errorf("asking for the queue's length: %w", err)
	}
	return q.Messages, nil
}

// backlog says that the queue's length is everything, exactly.
func (s *Server) backlog(w http.ResponseWriter, _ *http.Request) {
	n, err := s.queued()
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, "unavailable", err)
		return
	}
	count := map[string]any{"records": n, "exact": true}
	partition := map[string]any{"partition": 0, "pending": count, "ready": count, "in_flight": nil,
		"oldest_pending_seconds": nil, "owner": nil, "missing": []any{}, "stalled": nil}
	answer(w, http.StatusOK, map[string]any{"pending": count, "ready": count, "in_flight": nil,
		"oldest_pending_seconds": nil, "backend": "naive", "partitions": []any{partition}})
}

func number(list []message) {
	for i := range list {
		list[i].Position = i + 1
	}
}

// parameter returns a number of the query, or what it is otherwise.
func parameter(r *http.Request, name string, otherwise int) int {
	if n, err := strconv.ParseUint(r.URL.Query().Get(name), 10, 31); err == nil {
		return int(n)
	}
	return otherwise
}

func answer(w http.ResponseWriter, status int, what any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(what) // the client may be gone
}

func refuse(w http.ResponseWriter, status int, kind string, err error) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"type": "urn:drainmark:problem:" + kind, "title": http.StatusText(status), "status": status, "detail": err.Error(),
	})
}
