package api

import (
	"bytes"
	"cmp"
	"errors"
	"net/http"
	"slices"

	strictjson "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/auth"
	"github.com/drainmark/drainmark/backend"
)

// receiptJSON says where a receipt stands.
type receiptJSON struct {
	Receipt  string        `json:"receipt"`
	State    string        `json:"state"`
	Reason   string        `json:"reason,omitempty"`
	Count    uint64        `json:"count"`
	Marks    []string      `json:"marks"`
	Rejected *rejectedJSON `json:"rejected,omitempty"`
	Messages []placeJSON   `json:"messages,omitempty"`
}

// placeJSON is where a message stands.
type placeJSON struct {
	Log      string `json:"log"`
	Position uint64 `json:"position"`
	ID       string `json:"id"`
}

// rejectedJSON says which of a receipt's records are set aside, or are retries that were refused again. It is a lower
// bound unless it is exact.
type rejectedJSON struct {
	Count       uint64   `json:"count"`
	Exact       bool     `json:"exact"`
	DeadLetters []string `json:"dead_letters"`
	Reasons     []string `json:"reasons"` // of each of these
}

// withheld is what is said in place of a reason that is not for whoever asks: it may quote the record.
const withheld = "the reason is for those who may see the dead letters of the log, or append to it"

// told returns the status with the reasons that are for whoever asks.
func (r *request) told(now backend.Status) backend.Status {
	now.Reason = r.because(now.Reason, now.Cause, now.State == backend.Pending)
	if now.State != backend.Rejected || r.who.MayAll(auth.Letters) {
		return now
	}
	told := now.Rejected
	told.Reasons = slices.Clone(told.Reasons)
	for i, log := range told.Logs {
		if r.who.May(auth.Letters, log) || r.who.May(auth.Append, log) {
			continue
		}
		if told.Reasons[i] = withheld; i == 0 {
			now.Reason = withheld
		}
	}
	now.Rejected = told
	return now
}

// because returns a reason with its cause, if that is for whoever asks: those who may see the dead letters of the record's
// log, or, if only its own receipt is told, append to it.
func (r *request) because(reason string, cause backend.Cause, own bool) string {
	if cause.Text == "" {
		return reason
	}
	if r.who.MayAll(auth.Letters) || r.who.May(auth.Letters, cause.Log) || own && cause.Log != "" && r.who.May(auth.Append, cause.Log) {
		return reason + ": " + cause.Text
	}
	return reason
}

func newRejected(now backend.Status) *rejectedJSON {
	if now.State != backend.Rejected {
		return nil
	}
	letters, reasons := append([]string{}, now.Rejected.Letters...), append([]string{}, now.Rejected.Reasons...)
	return &rejectedJSON{now.Rejected.Records, now.Rejected.Exact, letters, reasons}
}

// barrierJSON says where a barrier stands.
type barrierJSON struct {
	Receipt  string  `json:"receipt"`
	State    string  `json:"state"`
	Reason   string  `json:"reason,omitempty"`
	Missing  uint64  `json:"missing,omitempty"`
	SetAside *uint64 `json:"set_aside,omitempty"` // left out where it is not known
}

// receipt answers what became of the writes of one or more receipts, and where they stand in a log.
func (h *handler) receipt(w http.ResponseWriter, r *request) error {
	q, err := r.query()
	if err != nil {
		return err
	}
	log := q.Get("log")
	if q.Has("log") {
		if err := drainmark.CheckLogName(log); err != nil {
			return err
		}
	}
	texts := names([]string{r.PathValue("receipt")})
	receipt, err := h.parseReceipts(texts)
	if err != nil {
		return err
	}
	if receipt == nil {
		return drainmark.Errorf(drainmark.KindInvalidReceipt, "no receipt in %q", r.URL.Path)
	}
	now, err := h.status(r, *receipt)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	answer := receiptJSON{
		Receipt: now.Receipt.String(), State: string(now.State), Reason: now.Reason, Count: recordsOf(now.Receipt),
		Marks: drainmark.SpanTexts(now.Receipt.Spans), Rejected: newRejected(now),
	}
	if log != "" && r.who.May(auth.Read, log) && (now.State == backend.Persisted || now.State == backend.Rejected) {
		places, err := h.service.Places(r.Context(), log, now.Receipt)
		if err != nil {
			return err
		}
		for _, p := range places {
			answer.Messages = append(answer.Messages, placeJSON{log, p.Position, p.Mark.String()})
		}
	}
	return h.respondJSON(w, http.StatusOK, answer)
}

// barrier publishes markers and waits for them, or waits again for earlier ones.
func (h *handler) barrier(w http.ResponseWriter, r *request) error {
	q, err := r.query()
	if err != nil {
		return err
	}
	logs, err := h.barrierLogs(w, r, q["log"])
	if err != nil {
		return err
	}
	for _, log := range logs {
		if err := r.allowed(auth.Barrier, log); err != nil {
			return err
		}
	}
	earlier, err := h.parseReceipts(names(q["receipt"]))
	switch {
	case err != nil:
		return err
	case earlier != nil && len(logs) > 0:
		return invalid("a barrier's receipt says itself which partitions it is of: it cannot be restricted to logs")
	case earlier != nil && !isBarrier(*earlier):
		return invalid("the receipt is one of writes: only a receipt that a barrier was answered with asks for that barrier again")
	case earlier != nil:
		now, err := h.status(r, *earlier)
		if err != nil {
			return err
		}
		return h.respondBarrier(w, now)
	case len(logs) == 0 && !r.who.MayAll(auth.Barrier):
		return forbidden(r, auth.Barrier, "")
	}
	ctx, cancel := h.publishing(r)
	defer cancel()
	receipt, err := h.service.Barrier(ctx, logs)
	if err != nil {
		return afterPublish(receipt, err)
	}
	now, err := h.status(r, receipt)
	if err != nil { // the markers are on their way all the same, and can be asked for again
		h.logger.Debug("waiting for a barrier", "error", err)
		now = backend.Status{Receipt: receipt, State: backend.Pending}
	}
	return h.respondBarrier(w, now)
}

// isBarrier says whether all of a receipt is of markers. Only of those a lease token was noted before they were published.
func isBarrier(r drainmark.Receipt) bool {
	for _, span := range r.Spans {
		if _, ok := r.Tokens[span.Partition]; !ok {
			return false
		}
	}
	return true
}

// recordsOf is how many records a receipt stands for.
func recordsOf(r drainmark.Receipt) (n uint64) {
	for _, span := range r.Spans {
		n += span.Last - span.First + 1
	}
	return n
}

// respondBarrier says reached only of markers that are all persisted, and of nothing else.
func (h *handler) respondBarrier(w http.ResponseWriter, now backend.Status) error {
	answer := barrierJSON{Receipt: now.Receipt.String(), State: string(now.State), Reason: now.Reason, Missing: now.Missing}
	if now.State == backend.Persisted || now.Missing > 0 {
		answer.SetAside = &now.SetAside
	}
	status := http.StatusAccepted
	switch now.State {
	case backend.Persisted:
		status, answer.State = http.StatusOK, "reached"
	case backend.Rejected:
		answer.State, answer.Reason = string(backend.Stalled), "it will never be reached: "+now.Reason
	}
	w.Header().Set(receiptHeader, answer.Receipt)
	w.Header().Set("Cache-Control", "no-store")
	return h.respondJSON(w, status, answer)
}

// barrierLogs returns the logs that a barrier is restricted to, by the query or by the body.
func (h *handler) barrierLogs(w http.ResponseWriter, r *request, logs []string) ([]string, error) {
	if err := cmp.Or(r.oneType(), checkEncoding(w, r)); err != nil {
		return nil, err
	}
	body, release, err := h.readBody(r, maxSmallBody, "the body")
	defer release()
	if err != nil {
		return nil, err
	}
	if body = bytes.TrimSpace(body); len(body) > 0 {
		if given := r.Header.Get("Content-Type"); given != "" && !hasType(given, "application/json") {
			return nil, mediaType("Content-Type %.80q: the body can only be application/json", given)
		}
		more, err := decodeLogs(body)
		if err != nil {
			return nil, err
		}
		logs = append(logs, more...)
	}
	if len(logs) > h.limits.Named {
		return nil, tooLarge("the request names %d logs; the limit is %d", len(logs), h.limits.Named)
	}
	for _, log := range logs {
		if err := drainmark.CheckLogName(log); err != nil {
			return nil, err
		}
	}
	return logs, nil
}

// decodeLogs reads {"logs": […]}, and nothing else that encoding/json would take for it: null or a second "logs", or LOGS. A
// barrier would be of other logs than its client meant.
func decodeLogs(body []byte) (logs []string, err error) {
	var in struct {
		Logs jsontext.Value `json:"logs"`
	}
	err = strictjson.Unmarshal(body, &in, strictjson.RejectUnknownMembers(true))
	switch {
	case err == nil && jsontext.Value(body).Kind() != '{':
		err = errors.New("it is not one object")
	case err == nil && len(in.Logs) == 0:
		return nil, nil
	case err == nil && in.Logs.Kind() != '[':
		err = errors.New(`"logs" must be an array`)
	case err == nil:
		err = strictjson.Unmarshal(in.Logs, &logs)
	}
	if err != nil {
		return nil, invalid(`the body must be empty or {"logs": […]}: %w`, err)
	}
	return logs, nil
}
