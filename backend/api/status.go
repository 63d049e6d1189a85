package api

import "net/http"

// statusJSON says what works now.
type statusJSON struct {
	Appends workingJSON `json:"appends"`
	Reads   workingJSON `json:"reads"`
}

// workingJSON says whether something works now, and why not.
type workingJSON struct {
	Working bool    `json:"working"`
	Reason  *string `json:"reason"` // null while it works
}

// working says whether appends and reads work now. The status is 200 also when neither does.
func (h *handler) working(w http.ResponseWriter, r *request) error {
	appends, reads := h.service.Working(r.Context())
	w.Header().Set("Cache-Control", "no-store")
	return h.respondJSON(w, http.StatusOK, statusJSON{newWorking(appends), newWorking(reads)})
}

func newWorking(err error) workingJSON {
	if err == nil {
		return workingJSON{Working: true}
	}
	reason := ProblemOf(err).Detail // which keeps to itself what an internal error says
	return workingJSON{Reason: &reason}
}
