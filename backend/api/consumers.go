package api

import (
	"net/http"
)

// wantedJSON says how many consumers are wanted now. Autoscalers read Wanted.
type wantedJSON struct {
	Wanted  int       `json:"wanted"`
	Known   bool      `json:"known"` // false if a consumer is wanted only because something is not known
	Reason  string    `json:"reason"`
	Pending countJSON `json:"pending"`
	Backend string    `json:"backend"` // who answers
}

// consumers says how many consumers are wanted now. The status is 200 also when something is not known: a scaler that
// got an error might take it for a reason to keep what there is, which may be none.
func (h *handler) consumers(w http.ResponseWriter, r *request) error {
	now := h.service.Consumers(r.Context())
	answer := wantedJSON{now.Consumers, now.Unknown == nil, now.Reason, countJSON(now.Pending), now.Backend.String()}
	switch {
	case now.Unknown != nil:
		answer.Reason = ProblemOf(now.Unknown).Detail // which keeps to itself what an internal error says
		h.lines.refused("/v1/consumers", http.StatusOK, now.Unknown)
	case now.Consumers == 0:
		answer.Reason = "everything that was accepted is persisted"
	}
	w.Header().Set("Cache-Control", "no-store")
	return h.respondJSON(w, http.StatusOK, answer)
}
