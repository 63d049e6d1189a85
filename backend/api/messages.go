package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/auth/quota"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/store"
)

// messages answers with a page of a log.
func (h *handler) messages(w http.ResponseWriter, r *request) error {
	log, err := r.logName()
	if err != nil {
		return err
	}
	q, err := r.query()
	if err != nil {
		return err
	}
	after, err := number(q, "after", 0, maxPosition, 0)
	if err != nil {
		return err
	}
	limit, err := h.pageLimit(q)
	if err != nil {
		return err
	}
	need, err := h.parseReceipts(append(names(r.Header[receiptHeader]), names(q["receipt"])...))
	if err != nil {
		return err
	}
	page, err := waiting(h, r, func(ctx context.Context, wait time.Duration) (backend.Page, error) {
		return h.service.Messages(ctx, log, after, limit, need, wait)
	})
	if err != nil {
		return err
	}
	defer page.Release()
	if err := r.use.Hold(quota.Answers, page.Held.Bytes()); err != nil {
		return err
	}
	events := wantsEvents(r.Header["Accept"])
	tag := pageTag(log, after, limit, &page.Page, events)
	w.Header().Set("ETag", tag)
	w.Header().Add("Vary", "Accept") // beside Origin, for allowed origins
	w.Header().Set("Cache-Control", "no-cache")
	if matches(r.Header["If-None-Match"], tag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if n := len(page.Messages); n > 0 && page.Messages[n-1].Position < page.Log.LastPosition {
		linkNext(w, r.URL.EscapedPath(), nextPage(page.Messages[n-1].Position, limit, q.Has("receipt"), need))
	}
	if events {
		h.respondEvents(w, r, &page.Page)
		return nil
	}
	h.respondLong(w, r, "application/json", func(e *encoder, dst []byte) []byte { return e.page(dst, &page.Page) })
	return nil
}

// pageTag returns the weak tag of a page. Messages change only when they are erased, so it consists of the request, of
// both ends of the log, of how many erasures it had, and of whether it is one of events. The lease token is for a store that
// has lost its tail: the same position may then have another message.
func pageTag(log string, after uint64, limit int, page *store.Page, events bool) string {
	form := ""
	if events {
		form = "/events"
	}
	return fmt.Sprintf(`W/"%s/%d/%d/%d/%d/%d/%x%s"`, log, after, limit, page.Log.LastPosition, page.Log.ClearedThrough, page.Log.Erasures,
		page.Version.Token, form)
}

// nextPage returns the parameters of the page behind a position. Receipts that the query has go along, because another
// backend may answer, and as one, because a header has its limits.
func nextPage(after uint64, limit int, receipts bool, need *drainmark.Receipt) url.Values {
	q := url.Values{"after": {strconv.FormatUint(after, 10)}, "limit": {strconv.Itoa(limit)}}
	if receipts && need != nil {
		q["receipt"] = []string{need.String()}
	}
	return q
}
