package storetest_test

import (
	"context"
	"strings"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

var wrongHeaders = []mistake{
	{"headers are not kept", onMessages(func(m *store.NewMessage) { m.Headers = drainmark.Headers{} }), []string{
		"headers come back exactly, each with its own message",
	}},

	{"a message without headers has those of the one before", onPage(func(_ *database, page *store.Page, _ int) {
		for i := 1; i < len(page.Messages); i++ {
			if page.Messages[i].Headers.IsZero() {
				page.Messages[i].Headers = page.Messages[i-1].Headers
			}
		}
	}), []string{"headers come back exactly, each with its own message"}},

	{"an empty header is none", onMessages(func(m *store.NewMessage) {
		var full []drainmark.Header
		for name, value := range m.Headers.All() {
			if value != "" {
				full = append(full, drainmark.Header{Name: name, Value: value})
			}
		}
		m.Headers, _ = drainmark.NewHeaders(full...)
	}), []string{"headers come back exactly, each with its own message"}},

	{"headers are unescaped once too often", onMessages(func(m *store.NewMessage) {
		m.Headers, _ = drainmark.ParseHeaders(strings.ReplaceAll(m.Headers.String(), `\\`, `\`))
	}), []string{"headers come back exactly, each with its own message"}},

	{"the trace context is not kept", onMessages(func(m *store.NewMessage) { m.Headers = m.Headers.WithoutTrace() }), []string{
		"headers come back exactly, each with its own message",
	}},

	{"headers do not count on a page", onReader(func(d *database, b *brokenReader) {
		b.messages = func(ctx context.Context, log string, after uint64, limit int) (store.Page, error) {
			whole, err := b.Reader.Messages(ctx, log, after, limit)
			bodies := 0
			for err == nil && len(whole.Messages) > 0 && len(whole.Messages) < limit {
				more, _ := b.Reader.Messages(ctx, log, whole.Messages[len(whole.Messages)-1].Position, 1)
				if len(more.Messages) == 0 {
					break
				}
				if bodies += len(more.Messages[0].Body); bodies > store.PageBytes/2 {
					break
				}
				whole.Messages = append(whole.Messages, more.Messages...)
			}
			return whole, err
		}
	}), []string{"a page of messages that are mostly headers ends at PageBytes"}},
}
