package api

import (
	"bytes"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/drainmark/drainmark"
)

// maxPlace is how long the place in a list of dead letters, or the id of one, may be.
const maxPlace = 255

type logsJSON struct {
	Logs []logJSON `json:"logs"`
}

type logJSON struct {
	Name         string `json:"name"`
	LastPosition uint64 `json:"last_position"`
	Count        uint64 `json:"count"`
}

// logs lists the logs in order of their names.
func (h *handler) logs(w http.ResponseWriter, r *request) error {
	q, err := r.query()
	if err != nil {
		return err
	}
	after := q.Get("after")
	if q.Has("after") {
		if err := drainmark.CheckLogName(after); err != nil {
			return err
		}
	}
	limit, err := h.pageLimit(q)
	if err != nil {
		return err
	}
	infos, err := h.service.Logs(r.Context(), after, limit+1) // one more tells whether there are more
	if err != nil {
		return err
	}
	if len(infos) > limit {
		infos = infos[:limit]
		linkNext(w, r.URL.EscapedPath(), url.Values{"after": {infos[limit-1].Name}, "limit": {strconv.Itoa(limit)}})
	}
	list := logsJSON{Logs: make([]logJSON, len(infos))}
	for i, info := range infos {
		list.Logs[i] = logJSON{info.Name, info.LastPosition, info.Count()}
	}
	w.Header().Set("Cache-Control", "no-cache")
	return h.respondJSON(w, http.StatusOK, list)
}

type deadLettersJSON struct {
	DeadLetters []deadLetterJSON `json:"dead_letters"`
	Next        string           `json:"next,omitempty"`
}

// deadLetterJSON is a dead letter. What is not known, because it could not be read or never came, is null or left out.
type deadLetterJSON struct {
	ID          string  `json:"id"`
	Partition   int     `json:"partition"`
	Log         string  `json:"log"`
	Reason      string  `json:"reason"`
	SetAsideAt  *string `json:"set_aside_at"`
	Attempts    int     `json:"attempts"`
	Producer    *string `json:"producer"`
	First       *uint64 `json:"first"`
	Last        *uint64 `json:"last"`
	Body        *string `json:"body,omitempty"`
	BodyBase64  *[]byte `json:"body_base64,omitempty"`
	ContentType string  `json:"content_type,omitempty"`
	AcceptedAt  *string `json:"accepted_at,omitempty"`
	Key         string  `json:"key,omitempty"`
	Undecoded   bool    `json:"undecoded"`
}

// deadLetters lists the dead letters that are open.
func (h *handler) deadLetters(w http.ResponseWriter, r *request) error {
	q, err := r.query()
	if err != nil {
		return err
	}
	limit, err := h.pageLimit(q)
	if err != nil {
		return err
	}
	if after := q.Get("after"); len(after) > maxPlace {
		return invalid("after has %d characters; the limit is %d", len(after), maxPlace)
	}
	letters, err := h.service.DeadLetters(r.Context(), q.Get("after"), limit)
	if err != nil {
		return err
	}
	if letters.Next != "" {
		linkNext(w, r.URL.EscapedPath(), url.Values{"after": {letters.Next}, "limit": {strconv.Itoa(limit)}})
	}
	list := deadLettersJSON{DeadLetters: make([]deadLetterJSON, len(letters.Letters)), Next: letters.Next}
	for i := range letters.Letters {
		list.DeadLetters[i] = newDeadLetter(&letters.Letters[i])
	}
	w.Header().Set("Cache-Control", "no-store")
	return h.respondJSON(w, http.StatusOK, list)
}

func newDeadLetter(l *drainmark.DeadLetter) deadLetterJSON {
	out := deadLetterJSON{
		ID: l.ID, Partition: l.Run.Partition, Log: l.Log, Reason: l.Reason, SetAsideAt: timeText(l.SetAsideAt),
		Attempts: l.Attempts, ContentType: l.Record.ContentType, AcceptedAt: timeText(l.Record.AcceptedAt), Key: l.Record.Key,
		Undecoded: l.Undecoded,
	}
	if l.Run.First > 0 {
		producer := l.Run.Producer.String()
		out.Producer, out.First, out.Last = &producer, &l.Run.First, &l.Run.Last
	}
	switch {
	case l.Record.Body == nil && out.AcceptedAt == nil: // there is no record to show
	case isText(l.Record.Body):
		body := string(l.Record.Body)
		out.Body = &body
	default:
		out.BodyBase64 = &l.Record.Body
	}
	return out
}

// timeText returns a time as a page has it, nil for none.
func timeText(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	var e encoder
	text := string(bytes.Trim(e.time(nil, t), `"`))
	return &text
}

// retry has a dead letter tried again.
func (h *handler) retry(w http.ResponseWriter, r *request) error {
	return h.settle(w, r, drainmark.Retry)
}

// discard gives a dead letter up.
func (h *handler) discard(w http.ResponseWriter, r *request) error {
	return h.settle(w, r, drainmark.Discard)
}

func (h *handler) settle(w http.ResponseWriter, r *request, kind drainmark.RecordKind) error {
	id := r.PathValue("id")
	if err := checkText("the dead letter's id", id, maxPlace); err != nil {
		return err
	}
	return h.publish(w, r, drainmark.Record{Kind: kind, Target: id})
}

// index says what there is.
func (h *handler) index(w http.ResponseWriter, _ *request) error {
	w.Header().Set("Cache-Control", "no-cache")
	h.respond(w, http.StatusOK, "application/json", []byte(indexJSON))
	return nil
}

const indexJSON = `{
  "name": "drainmark",
  "links": {
    "openapi": "/v1/openapi.json",
    "logs": "/v1/logs",
    "messages": "/v1/logs/{log}/messages",
    "events": "/v1/logs/{log}/events",
    "receipts": "/v1/receipts/{receipt}",
    "barriers": "/v1/barriers",
    "backlog": "/v1/backlog",
    "status": "/v1/status",
    "dead_letters": "/v1/dead-letters"
  }
}
`
