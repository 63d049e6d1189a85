package api

import (
	"net/http"
	"net/url"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/auth"
	"github.com/drainmark/drainmark/backend"
)

// settledJSON is what was done, or would be done, with several dead letters at once.
type settledJSON struct {
	DeadLetters int           `json:"dead_letters"`
	Records     uint64        `json:"records"`
	State       string        `json:"state"`
	Reason      string        `json:"reason,omitempty"`
	Rejected    *rejectedJSON `json:"rejected,omitempty"` // the retries that were refused again
	Receipt     *string       `json:"receipt"`            // null if nothing was published
	Next        *string       `json:"next"`               // null at the end
}

// letterFilter reads which dead letters are meant, of those that may be seen.
func (r *request) letterFilter(q url.Values) (f backend.LetterFilter, err error) {
	f.Log, f.Reason = q.Get("log"), q.Get("reason")
	if q.Has("log") {
		if err := drainmark.CheckLogName(f.Log); err != nil {
			return f, err
		}
	}
	if len(f.Reason) > maxPlace {
		return f, invalid("reason has %d characters; the limit is %d", len(f.Reason), maxPlace)
	}
	if q.Has("before") {
		if f.Before, err = time.Parse(time.RFC3339, q.Get("before")); err != nil {
			return f, invalid("before is %.40q: it must be a time as 2026-03-01T10:00:00Z", q.Get("before"))
		}
	}
	if !r.who.May(auth.Admin, "") {
		f.May = func(log string) bool { return r.who.May(auth.Letters, log) }
	}
	return f, nil
}

// truth reads a parameter that is true or false.
func truth(q url.Values, name string, value bool) (bool, error) {
	switch text := q.Get(name); {
	case !q.Has(name):
		return value, nil
	case text == "true" || text == "false":
		return text == "true", nil
	default:
		return false, invalid("%s is %.40q: it must be true or false", name, text)
	}
}

// retryAll has several dead letters tried again.
func (h *handler) retryAll(w http.ResponseWriter, r *request) error {
	return h.settleAll(w, r, drainmark.Retry)
}

// discardAll gives several dead letters up.
func (h *handler) discardAll(w http.ResponseWriter, r *request) error {
	return h.settleAll(w, r, drainmark.Discard)
}

// settleAll settles as many dead letters as one request may, or only counts all that are meant. It needs to be told
// which: a request that names nothing by mistake must not settle everything.
func (h *handler) settleAll(w http.ResponseWriter, r *request, kind drainmark.RecordKind) error {
	q, err := r.query()
	if err != nil {
		return err
	}
	filter, err := r.letterFilter(q)
	if err != nil {
		return err
	}
	if filter.Log == "" && filter.Reason == "" && filter.Before.IsZero() {
		return invalid("name which dead letters, by log, reason or before; before=%s means all that there are", time.Now().UTC().Format(time.RFC3339))
	}
	limit, err := h.pageLimit(q)
	if err != nil {
		return err
	}
	after := q.Get("after")
	if len(after) > maxPlace {
		return invalid("after has %d characters; the limit is %d", len(after), maxPlace)
	}
	dry, err := truth(q, "dry_run", false)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	if dry {
		counted, err := h.service.CountLetters(r.Context(), filter)
		if err != nil {
			return err
		}
		return h.respondJSON(w, http.StatusOK, settledJSON{DeadLetters: counted.Letters, Records: counted.Records, State: "counted"})
	}
	ctx, cancel := h.publishing(r)
	defer cancel()
	settled, err := h.service.Settle(ctx, kind, principalOf(r), filter, after, limit)
	if err != nil {
		return afterPublish(settled.Receipt, err)
	}
	return h.answerSettled(w, r, settled)
}

// answerSettled waits as the request prefers, and answers.
func (h *handler) answerSettled(w http.ResponseWriter, r *request, settled backend.Settled) error {
	answer := settledJSON{DeadLetters: settled.Letters, Records: settled.Records, State: "nothing"}
	if settled.Next != "" {
		answer.Next = &settled.Next
	}
	if settled.Letters == 0 {
		return h.respondJSON(w, http.StatusOK, answer)
	}
	r.did = append(r.did, "dead_letters", settled.Letters, "records", settled.Records)
	status := http.StatusAccepted
	answer.State = "accepted"
	if r.wait > 0 {
		now, err := h.status(r, settled.Receipt)
		switch {
		case err != nil:
			h.logger.Debug("waiting for dead letters to be settled", "error", err)
		case now.State == backend.Persisted:
			status, answer.State = http.StatusOK, string(now.State)
		case now.State == backend.Rejected:
			answer.State, answer.Reason, answer.Rejected = string(now.State), now.Reason, newRejected(now)
		}
	}
	text := settled.Receipt.String()
	answer.Receipt = &text
	w.Header().Set(receiptHeader, text)
	return h.respondJSON(w, status, answer)
}
