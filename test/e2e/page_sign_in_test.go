package e2e

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// signIn pastes a token, as soon as the page asks for it.
func (p *person) signIn(token string) {
	p.t.Helper()
	p.until("the page asks who they are", `document.querySelector(".sign-in[open] #token") !== null`)
	evaluate[bool](p, fmt.Sprintf(`(window.before = true, document.getElementById("token").value = %q, document.querySelector(".sign-in form .button").click(), true)`, token))
	p.until("the page has begun anew", `window.before === undefined && document.readyState === "complete"`)
}

// A page asks for a token where the API wants one. Nothing but the tab has it, and the page says what one may not do.
func TestSigningIn(t *testing.T) {
	t.Parallel()
	_, url := startUp(t, "--access", accessFile(t, "principals:\n"+principal("writer", "append:guestbook", "read:guestbook")+principal("reader", "read:guestbook")))
	_, open := startUp(t, "--access", anybodyMay(t, "read:guestbook"))
	b := startBrowser(t)
	write := `(document.getElementById("text").value = "hello", document.getElementById("text").dispatchEvent(new Event("input", { bubbles: true })), document.getElementById("send").click(), true)`
	writer := b.person("Wanda")
	writer.visit(url)
	writer.signIn("dmk_wrong")
	writer.until("the token is not good", `document.querySelector(".sign-in")?.innerText.includes("not good")`)
	writer.signIn("dmk_writer")
	writer.until("one can write", `!document.getElementById("text").disabled && document.querySelector(".sign-in") === null`)
	evaluate[bool](writer, write)
	writer.until("the message is visible", `document.body.innerText.includes("hello")`)
	if kept := evaluate[string](writer, `document.cookie + location.href + JSON.stringify(localStorage)`); strings.Contains(kept, "dmk_") {
		t.Errorf("the token is in %s", kept)
	}
	reader := b.person("Rita")
	reader.visit(url)
	reader.signIn("dmk_reader")
	reader.until("the message is there", `document.body.innerText.includes("hello")`)
	evaluate[bool](reader, write)
	reader.until("one may not write", `document.body.innerText.includes("You may not do this: reader is not granted append")`)
	evaluate[bool](reader, `(document.getElementById("sign-out").click(), true)`)
	reader.until("the page asks again after signing out", `document.querySelector(".sign-in[open]")?.innerText.includes("who you are")`)
	guest := b.person("Gus")
	guest.visit(open)
	guest.until("one can write", `!document.getElementById("text").disabled`)
	evaluate[bool](guest, write)
	guest.until("one may sign in", `document.querySelector(".sign-in") === null && document.getElementById("sign-in") !== null`)
	evaluate[bool](guest, `(document.getElementById("sign-in").click(), true)`)
	guest.until("the page asks", `document.querySelector(".sign-in[open]") !== null`)
}

// requestsOf counts the requests that the page's own function makes, and whatever else the page does meanwhile.
const requestsOf = `import("./api.js").then(async ({ api }) => {
	const [real, sent] = [fetch, []];
	window.fetch = (...question) => (sent.push(question), real(...question));
	api.working().catch(() => {});
	await new Promise((resolve) => setTimeout(resolve));
	window.fetch = real;
	return sent.length;
})`

// A page also asks where the API has had too many requests without a good token from its address. It sends none while it asks.
func TestAskingWhoSendsNothing(t *testing.T) {
	t.Parallel()
	_, up := startUp(t, "--access", accessFile(t, "principals:\n"+principal("operator", "admin")))
	d := startDoor(t, up)
	d.set(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		refused := strings.HasPrefix(r.URL.Path, "/v1/") && r.Header.Get("Authorization") == ""
		if refused {
			w.Header().Set("WWW-Authenticate", "Bearer")
			problem(w, http.StatusTooManyRequests, "rate-limited", "more than 10 requests in a minute without a good token, from one address")
		}
		return refused
	})
	p := startBrowser(t).person("Ann")
	for _, page := range []string{"/", "/flow"} {
		p.visit(d.url + page)
		p.until("the page asks", `document.querySelector(".sign-in[open]") !== null`)
		if n := evaluate[int](p, requestsOf); n != 0 {
			t.Errorf("%s sends %d requests while it asks", page, n)
		}
	}
	p.signIn("dmk_operator")
	p.shows("#health-live", "live")
	if n := evaluate[int](p, requestsOf); n == 0 {
		t.Error("signed in it sends none")
	}
}

// anybodyMay makes a file of principals in which something is granted to those without credentials.
func anybodyMay(t *testing.T, grant string) string {
	t.Helper()
	return accessFile(t, "anonymous: ["+grant+"]\n")
}

// accessFile makes a file of principals.
func accessFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "access.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// principal is one in such a file, whose token is their name behind dmk_.
func principal(name string, grants ...string) string {
	return fmt.Sprintf("  - {name: %s, tokens: [{sha256: %x}], grants: [%s]}\n", name, sha256.Sum256([]byte("dmk_"+name)), `"`+strings.Join(grants, `", "`)+`"`)
}
