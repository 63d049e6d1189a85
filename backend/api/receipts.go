package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
)

// receiptJSON says where a receipt or a barrier stands.
type receiptJSON struct {
	Receipt string `json:"receipt"`
	State   string `json:"state"`
	Reason  string `json:"reason,omitempty"`
	Missing uint64 `json:"missing,omitempty"` // a barrier's
}

// receipt answers what became of the writes of one or more receipts.
func (h *handler) receipt(w http.ResponseWriter, r *request) error {
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
	return h.respondJSON(w, http.StatusOK, receiptJSON{Receipt: now.Receipt.String(), State: string(now.State), Reason: now.Reason})
}

// barrier publishes fences and waits for them, or waits again for earlier ones.
func (h *handler) barrier(w http.ResponseWriter, r *request) error {
	q, err := r.query()
	if err != nil {
		return err
	}
	logs, err := h.barrierLogs(w, r, q["log"])
	if err != nil {
		return err
	}
	earlier, err := h.parseReceipts(names(q["receipt"]))
	switch {
	case err != nil:
		return err
	case earlier != nil && len(logs) > 0:
		return invalid("a barrier's receipt says itself which partitions it is of: it cannot be restricted to logs")
	case earlier != nil:
		now, err := h.status(r, *earlier)
		if err != nil {
			return err
		}
		return h.respondBarrier(w, now)
	}
	ctx, cancel := h.publishing(r)
	defer cancel()
	receipt, err := h.service.Barrier(ctx, logs)
	if err != nil {
		return afterPublish(receipt, err)
	}
	now, err := h.status(r, receipt)
	if err != nil { // the fences are on their way all the same, and can be asked for again
		h.log.Debug("waiting for a barrier", "error", err)
		now = backend.Status{Receipt: receipt, State: backend.Pending}
	}
	return h.respondBarrier(w, now)
}

// respondBarrier says reached only of fences that are all persisted, and of nothing else.
func (h *handler) respondBarrier(w http.ResponseWriter, now backend.Status) error {
	answer := receiptJSON{now.Receipt.String(), string(now.State), now.Reason, now.Missing}
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
	if err := checkEncoding(w, r); err != nil {
		return nil, err
	}
	body, release, err := h.readBody(w, r, maxSmallBody, "the body")
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

// decodeLogs reads {"logs": […]}.
func decodeLogs(body []byte) ([]string, error) {
	var wanted struct {
		Logs []string `json:"logs"`
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err := d.Decode(&wanted)
	if _, more := d.Token(); err == nil && (body[0] != '{' || !errors.Is(more, io.EOF)) {
		err = errors.New("it is not one object")
	}
	if err != nil {
		return nil, invalid(`the body must be empty or {"logs": […]}: %w`, err)
	}
	return wanted.Logs, nil
}
