package api

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/auth"
	"github.com/drainmark/drainmark/auth/quota"
	"github.com/drainmark/drainmark/backend"
)

// maxPlace is how long the place in a list of dead letters, or the id of one, may be.
const maxPlace = 255

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
	infos, release, err := h.readableLogs(r, after, limit+1) // one more tells whether there are more
	defer release()
	if err != nil {
		return err
	}
	if len(infos) > limit {
		infos = infos[:limit]
		linkNext(w, r.URL.EscapedPath(), url.Values{"after": {infos[limit-1].Name}, "limit": {strconv.Itoa(limit)}})
	}
	w.Header().Set("Cache-Control", "no-cache")
	h.respondLong(w, r, "application/json", func(e *encoder, dst []byte) []byte { return e.logs(dst, infos) })
	return nil
}

// readableLogs lists up to limit logs behind a name that may be read. The caller calls release, also after an error.
func (h *handler) readableLogs(r *request, after string, limit int) (readable []drainmark.LogInfo, release func(), err error) {
	var held []backend.Logs
	var bytes int64
	release = func() {
		for i := range held {
			held[i].Release()
		}
	}
	for more := true; more && len(readable) < limit; {
		logs, err := h.service.Logs(r.Context(), after, limit-len(readable))
		if err != nil {
			return nil, release, err
		}
		held, bytes = append(held, logs), bytes+logs.Held.Bytes()
		if err := r.use.Hold(quota.Answers, bytes); err != nil {
			return nil, release, err
		}
		more = len(logs.Infos) == limit-len(readable)
		for _, log := range logs.Infos {
			if after = log.Name; r.who.May(auth.Read, log.Name) {
				readable = append(readable, log)
				continue
			}
			var from string
			if from, more = r.who.Next(auth.Read, log.Name); more {
				after = justBefore(from)
			}
			break
		}
	}
	return readable, release, nil
}

// justBefore returns a text that stands before a log's name in the order of names, and behind all other names that do.
func justBefore(name string) string {
	last := len(name) - 1
	return name[:last] + string(name[last]-1) + "~" // which is behind all characters of names
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
	filter, err := r.letterFilter(q)
	if err != nil {
		return err
	}
	bodies, err := truth(q, "body", true)
	if err != nil {
		return err
	}
	letters, err := h.service.DeadLetters(r.Context(), filter, q.Get("after"), limit)
	if err != nil {
		return err
	}
	defer letters.Release()
	if err := r.use.Hold(quota.Answers, letters.Held.Bytes()); err != nil {
		return err
	}
	if letters.Next != "" {
		next := url.Values{"after": {letters.Next}, "limit": {strconv.Itoa(limit)}}
		for _, name := range []string{"log", "reason", "before", "body"} {
			if q.Has(name) {
				next.Set(name, q.Get(name))
			}
		}
		linkNext(w, r.URL.EscapedPath(), next)
	}
	w.Header().Set("Cache-Control", "no-store")
	h.respondLong(w, r, "application/json", func(e *encoder, dst []byte) []byte { return e.letters(dst, &letters, bodies) })
	return nil
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
	if err := h.maySettle(r, id); err != nil {
		return err
	}
	return h.publish(w, r, drainmark.Record{Kind: kind, Target: id})
}

// maySettle says whether the dead letter may be settled. One of a log that is not granted is not there, and neither was one
// that has been discarded.
func (h *handler) maySettle(r *request, id string) error {
	if r.who.May(auth.Admin, "") {
		return nil
	}
	log, err := h.service.LetterLog(r.Context(), id)
	switch drainmark.KindOf(err) {
	case drainmark.KindNotFound, drainmark.KindConflict, "":
		if !r.who.May(auth.Letters, log) {
			return notFound("there is no dead letter %q", id) // in the same words, whatever is the case
		}
	}
	return err
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
    "log": "/v1/logs/{log}",
    "messages": "/v1/logs/{log}/messages",
    "message": "/v1/logs/{log}/messages/{position}",
    "trim": "/v1/logs/{log}/trim",
    "events": "/v1/logs/{log}/events",
    "receipts": "/v1/receipts/{receipt}",
    "barriers": "/v1/barriers",
    "backlog": "/v1/backlog",
    "status": "/v1/status",
    "consumers": "/v1/consumers",
    "dead_letters": "/v1/dead-letters"
  }
}
`
