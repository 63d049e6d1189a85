package api

import (
	"net/http"

	"github.com/drainmark/drainmark"
)

// clear empties a log.
func (h *handler) clear(w http.ResponseWriter, r *request) error {
	log, err := r.logName()
	if err != nil {
		return err
	}
	q, err := r.query()
	if err != nil {
		return err
	}
	if q.Has("through") { // whoever means a trim must not lose the rest
		return invalid("a clear removes everything and has no parameter through: POST /v1/logs/%s/trim removes up to a position", log)
	}
	return h.publish(w, r, drainmark.Record{Kind: drainmark.Clear, Log: log})
}

// trim removes the messages of a log up to a position. It has a path of its own: a backend of an older version says that
// there is none, and does not take it for a clear.
func (h *handler) trim(w http.ResponseWriter, r *request) error {
	log, err := r.logName()
	if err != nil {
		return err
	}
	q, err := r.query()
	if err != nil {
		return err
	}
	through, err := inRange("through", q.Get("through"), 1, maxPosition)
	if err != nil {
		return err
	}
	return h.publish(w, r, drainmark.Record{Kind: drainmark.Trim, Log: log, Target: drainmark.AtPosition(through)})
}

// erase erases one message.
func (h *handler) erase(w http.ResponseWriter, r *request) error {
	log, err := r.logName()
	if err != nil {
		return err
	}
	position, err := inRange("the position", r.PathValue("position"), 1, maxPosition)
	if err != nil {
		return err
	}
	return h.publish(w, r, drainmark.Record{Kind: drainmark.Erase, Log: log, Target: drainmark.AtPosition(position)})
}

// deleteLog deletes a log.
func (h *handler) deleteLog(w http.ResponseWriter, r *request) error {
	log, err := r.logName()
	if err != nil {
		return err
	}
	return h.publish(w, r, drainmark.Record{Kind: drainmark.Delete, Log: log})
}
