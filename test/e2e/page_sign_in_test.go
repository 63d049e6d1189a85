package e2e

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// signIn pastes a token, as soon as the page asks for it.
func (p *person) signIn(token string) {
	p.t.Helper()
	p.until("the page asks who they are", `document.querySelector(".sign-in[open] #token") !== null`)
	evaluate[bool](p, fmt.Sprintf(`(window.before = true, document.getElementById("token").value = %q, document.querySelector(".sign-in .button").click(), true)`, token))
	p.until("the page has begun anew", `window.before === undefined && document.readyState === "complete"`)
}

// A page asks for a token where the API wants one. Nothing but the tab has it, and the page says what one may not do.
func TestSigningIn(t *testing.T) {
	t.Parallel()
	access := filepath.Join(t.TempDir(), "access.yaml")
	text := fmt.Sprintf("principals:\n  - {name: writer, tokens: [{sha256: %x}], grants: [\"append:guestbook\", \"read:guestbook\"]}\n"+
		"  - {name: reader, tokens: [{sha256: %x}], grants: [\"read:guestbook\"]}\n", sha256.Sum256([]byte("dmk_writer")), sha256.Sum256([]byte("dmk_reader")))
	if err := os.WriteFile(access, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, url := startUp(t, "--access", access)
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

// anybodyMay makes a file of principals in which something is granted to those without credentials.
func anybodyMay(t *testing.T, grant string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "access.yaml")
	if err := os.WriteFile(path, []byte("anonymous: ["+grant+"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
