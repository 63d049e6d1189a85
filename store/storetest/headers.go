package storetest

import (
	"fmt"
	"strings"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/store"
)

var aboutHeaders = []promise{
	{"headers come back exactly, each with its own message", func(w *world) {
		all := []drainmark.Headers{
			w.headers(), w.headers("tenant", "7"), w.headers("tenant", "7"), w.headers(), w.headers("tenant", "8"),
			w.headers("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate", "a=1,b=2"),
			w.headers("empty", "", "json", `{"a":"\\u0000 \n"}`, "quoted", `'"; DROP TABLE messages; --`),
			w.headers("text", "grüße, мир 🎉 \u2028 e\u0301", "two", "spaces:  and a colon"),
			w.headers("!#$%&'*+-.^_`|~09az", "in a name", "b", "shorter", "aaa", "longer and before"),
			w.largestHeaders(),
		}
		log := w.logIn(0)
		s := w.hold(0)
		var operations []store.Operation
		for i, headers := range all {
			operations = append(operations, w.headed(log, fmt.Sprint(i), headers))
		}
		s.commit(operations...)
		s.commit(operations...)
		for i, m := range w.messages(log) {
			w.equal("a body", string(m.Body), fmt.Sprint(i%len(all)))
			w.equal("its content type", m.ContentType, "text/plain")
			w.equal("the headers of message "+fmt.Sprint(i+1), m.Headers.String(), all[i%len(all)].String())
		}
	}},

	{"a page of messages that are mostly headers ends at PageBytes", func(w *world) {
		largest := w.largestHeaders()
		n := store.PageBytes/largest.Size() + 100
		log := w.logIn(0)
		s := w.hold(0)
		for done := 0; done < n; {
			var operations []store.Operation
			for ; len(operations) < 500 && done < n; done++ {
				operations = append(operations, w.headed(log, "", largest))
			}
			s.commit(operations...)
		}
		page := w.page(log, 0, n)
		if size := len(page.Messages) * largest.Size(); size == 0 || size > store.PageBytes {
			w.Fatalf("a page of at most %d bytes holds %d bytes of headers", store.PageBytes, size)
		}
		w.equal("how many messages there are", len(w.messages(log)), n)
	}},

	{"a key stands for the headers too, and not for the trace context", func(w *world) {
		log := w.logIn(0)
		s := w.hold(0)
		keyed := func(key string, pairs ...string) store.Operation {
			op := w.keyed(log, key, "body")
			op.Record.Headers = w.headers(pairs...)
			return op
		}
		s.commit(
			keyed("none"), keyed("tenant", "tenant", "7", "traceparent", "one"), keyed("trace", "traceparent", "one"),
		)
		again := s.commit(
			keyed("tenant", "tenant", "7"), keyed("tenant", "tenant", "7", "tracestate", "two", "traceparent", "two"),
			keyed("trace"), keyed("trace", "traceparent", "two"), keyed("none", "traceparent", "two"),
		)
		w.equal("how many were dropped", again.KeyDuplicates, 5)
		refused := s.refused(
			keyed("none", "tenant", "7"), keyed("tenant"), keyed("tenant", "tenant", "8"), keyed("tenant", "tenan", "t7"),
			keyed("tenant", "tenant", "7", "a", ""),
		)
		want := map[int]string{}
		for i := range 5 {
			want[i] = store.ReasonKeyReused
		}
		w.equal("the operations at fault", refused.Reasons, want)
		w.holds(log, 0, "body", "body", "body")
	}},
}

// headers makes headers of names and values.
func (w *world) headers(pairs ...string) drainmark.Headers {
	w.Helper()
	var list []drainmark.Header
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, drainmark.Header{Name: pairs[i], Value: pairs[i+1]})
	}
	headers, err := drainmark.NewHeaders(list...)
	w.must("making headers", err)
	return headers
}

// largestHeaders are as many and as large as can be, of characters that JSON escapes.
func (w *world) largestHeaders() drainmark.Headers {
	w.Helper()
	pairs := []string{"traceparent", strings.Repeat("t", drainmark.MaxTraceBytes-len("traceparent"))}
	const each = drainmark.MaxHeaderBytes / drainmark.MaxHeaders
	for i := range drainmark.MaxHeaders {
		pairs = append(pairs, fmt.Sprintf("x%02d", i), strings.Repeat(`"`, each-len("x00")))
	}
	return w.headers(pairs...)
}

func (w *world) headed(log, body string, headers drainmark.Headers) store.Operation {
	op := w.append(log, body)
	op.Record.Headers = headers
	return op
}
