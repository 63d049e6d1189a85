package api

import (
	"fmt"
	"testing"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
)

func TestRemovals(t *testing.T) {
	t.Parallel()
	for call, want := range map[[2]string]drainmark.Record{
		{"POST", "/v1/logs/guestbook/trim?through=17"}: {Kind: drainmark.Trim, Target: "17"},
		{"DELETE", messagesPath + "/018"}:              {Kind: drainmark.Erase, Target: "18"},
		{"DELETE", "/v1/logs/guestbook"}:               {Kind: drainmark.Delete},
	} {
		t.Run(fmt.Sprintf("%s %s is published", call[0], call[1]), func(t *testing.T) {
			t.Parallel()
			var got drainmark.Record
			service := accepts(func(_ string, records []drainmark.Record) { got = records[0] })
			service.status = says(backend.Persisted, "")
			s := serve(t, service)
			s.do(call[0], call[1], "").want(t, 202)
			if want.Log = "guestbook"; got.Kind != want.Kind || got.Target != want.Target || got.Log != want.Log {
				t.Errorf("published %+v", got)
			}
			s.do(call[0], call[1], "", "Prefer: wait=1").want(t, 200)
		})
	}
	for _, call := range [][2]string{
		{"POST", "/v1/logs/guestbook/trim"}, {"POST", "/v1/logs/guestbook/trim?through=0"}, {"POST", "/v1/logs/guestbook/trim?through=x"},
		{"POST", "/v1/logs/-/trim?through=1"}, {"DELETE", "/v1/logs/-"}, {"DELETE", messagesPath + "/0"}, {"DELETE", messagesPath + "/-1"},
		{"DELETE", messagesPath + "/9007199254740992"}, {"DELETE", "/v1/logs/-/messages/1"},
		{"DELETE", messagesPath + "?through=7"}, // which is not a clear
	} {
		t.Run(fmt.Sprintf("%s %s is refused", call[0], call[1]), func(t *testing.T) {
			t.Parallel()
			serve(t, &fake{}).do(call[0], call[1], "").wantProblem(t, drainmark.KindInvalid)
		})
	}
}
