package app

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A principal with as many open dead letters as it may have cannot append, and nobody else is kept from it. When they are
// discarded, it can.
func TestWhoHasTooManyDeadLettersCannotAppend(t *testing.T) {
	t.Parallel()
	shop, one := principal(t, "shop", `"append:*", "letters:*"`)
	other, two := principal(t, "other", `"append:*"`)
	path := filepath.Join(t.TempDir(), "access.yaml")
	writeAccess(t, path, strings.TrimSuffix(one, "}\n")+", limits: {letters: 3}}\n", two)
	p := up(t, filepath.Join(t.TempDir(), "data"), "--access", path)
	p.findAdmin()
	post := func(token, body string) answer {
		a, err := p.call("POST", "/v1/logs/guestbook/messages", body, "Authorization", "Bearer "+token, "Idempotency-Key", "the-same", "Prefer", "wait=20")
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := post(shop, "first"); a.status != 201 {
		t.Fatalf("the first append: %d %s", a.status, a.body)
	}
	for i := range 3 {
		if a := post(shop, fmt.Sprint("another message ", i)); a.status != 202 || !strings.Contains(string(a.body), "idempotency-key-reused") {
			t.Fatalf("append %d with the same key: %d %s", i, a.status, a.body)
		}
	}
	var refused answer
	p.await("shop is refused", func() bool {
		refused = post(shop, "first") // which is there already, and makes no dead letter
		return refused.status == 429
	})
	if text := string(refused.body); !strings.Contains(text, "rate-limited") || !strings.Contains(text, "3 open dead letters") {
		t.Errorf("it is refused with %s", text)
	}
	if a := post(other, "of somebody else"); a.status != 202 || !strings.Contains(string(a.body), "rejected") {
		t.Errorf("somebody else is told %d %s", a.status, a.body)
	}
	if metrics := string(p.want(200, "GET", "/metrics", "").body); !strings.Contains(metrics, `drainmark_http_rate_limited_total{limit="letters",principal="shop"} `) {
		t.Error("it is not counted")
	}
	p.want(200, "DELETE", "/v1/dead-letters?log=guestbook", "", "Authorization", "Bearer "+shop, "Prefer", "wait=20")
	after, err := strconv.Atoi(refused.header.Get("Retry-After"))
	if err != nil || after < 1 || after > 5 {
		t.Errorf("Retry-After is %q", refused.header.Get("Retry-After"))
	}
	p.await("shop may append again", func() bool { return post(shop, "first").status == 201 })
}
