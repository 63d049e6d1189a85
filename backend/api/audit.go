package api

import (
	"log/slog"
	"net/http"
	"strings"

	"github.com/drainmark/drainmark/internal/loglimit"
)

// audit says who did what cannot be undone, each time, and who was refused, as often as anybody can read it.
type audit struct {
	logger  *slog.Logger
	refused *loglimit.Limiter
}

func newAudit(to *slog.Logger) audit {
	to = to.With("part", "audit")
	return audit{to, loglimit.New(to, slog.LevelWarn, "access was refused")}
}

// audited writes a request that is over into the audit log, if it belongs there.
func (h *handler) audited(rt route, w *recorder, r *http.Request, status int) {
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		h.audit.refused.Log(append(auditFields(rt, w, r, status), "reason", w.why)...)
	case rt.options&audits != 0:
		h.audit.logger.Info("done", auditFields(rt, w, r, status)...)
	}
}

func auditFields(rt route, w *recorder, r *http.Request, status int) []any {
	var fields []any
	if w.req != nil {
		fields = append([]any{"principal", w.req.who.Name, "how", w.req.who.How}, w.req.did...)
	}
	fields = append(fields, "from", from(r), "method", r.Method, "route", rt.path, "verb", rt.verb, "status", status)
	for _, name := range []string{"log", "id", "position"} {
		if value := r.PathValue(name); value != "" {
			fields = append(fields, name, cut(value))
		}
	}
	if r.URL.RawQuery != "" {
		fields = append(fields, "query", cut(r.URL.RawQuery))
	}
	if receipt := w.Header().Get(receiptHeader); receipt != "" {
		fields = append(fields, "receipt", receipt)
	}
	if trace := r.Header.Get("Traceparent"); trace != "" {
		fields = append(fields, "trace", cut(trace))
	}
	if id := w.span.TraceID(); id != "" {
		fields = append(fields, "trace_id", id)
	}
	return fields
}

// maxForwarded is how many characters of an X-Forwarded-For are logged.
const maxForwarded = 200

// from says from where a request comes, and for whom a proxy says that it forwards, which anybody can claim who reaches
// this server directly.
func from(r *http.Request) string {
	forwarded := strings.Join(r.Header["X-Forwarded-For"], ", ")
	if forwarded == "" {
		return r.RemoteAddr
	}
	return r.RemoteAddr + ", for " + forwarded[:min(len(forwarded), maxForwarded)]
}
