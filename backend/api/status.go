package api

import (
	"net/http"

	"github.com/drainmark/drainmark"
)

// statusJSON says what works now.
type statusJSON struct {
	Appends    workingJSON    `json:"appends"`
	Reads      workingJSON    `json:"reads"`
	Persisting persistingJSON `json:"persisting"`
}

// workingJSON says whether something works now, and why not.
type workingJSON struct {
	Working bool    `json:"working"`
	Reason  *string `json:"reason"` // null while it works
}

// persistingJSON says whether what is accepted gets persisted now, null if that is not known.
type persistingJSON struct {
	Working *bool   `json:"working"`
	Reason  *string `json:"reason"` // null while it works
}

// working says whether appends, reads and persisting work now. The status is 200 also when none does.
func (h *handler) working(w http.ResponseWriter, r *request) error {
	now := h.service.Working(r.Context())
	if now.Appends == nil && h.bodies.Full() {
		now.Appends = h.bodiesFull()
	}
	for _, err := range []error{now.Appends, now.Reads} {
		if kind := drainmark.KindOf(err); kind == drainmark.KindUnavailable || kind == drainmark.KindMisconfigured {
			h.lines.refused("/v1/status", http.StatusOK, err)
		}
	}
	persists := newWorking(now.Persisting)
	if persists.Reason != nil {
		reason := cut(r.because(*persists.Reason, now.Cause, false))
		persists.Reason = &reason
	}
	persisting := persistingJSON{&persists.Working, persists.Reason}
	if now.PersistingUnknown {
		persisting.Working = nil
	}
	w.Header().Set("Cache-Control", "no-store")
	return h.respondJSON(w, http.StatusOK, statusJSON{newWorking(now.Appends), newWorking(now.Reads), persisting})
}

func newWorking(err error) workingJSON {
	if err == nil {
		return workingJSON{Working: true}
	}
	reason := ProblemOf(err).Detail // which keeps to itself what an internal error says
	return workingJSON{Reason: &reason}
}
