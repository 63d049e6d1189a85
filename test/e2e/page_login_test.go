package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/drainmark/drainmark/test/servers"
)

// leave has the page leave for the issuer, as soon as the page offers it.
func (p *person) leave(i *issuer) {
	p.t.Helper()
	p.until("one can sign in at the issuer", `document.querySelector(".sign-in[open] .elsewhere button")?.innerText === "Sign in with `+strings.TrimPrefix(i.URL, "http://")+`"`)
	p.do(chromedp.Click(".sign-in .elsewhere button"))
	p.until("the issuer asks", `document.getElementById("alice") !== null`)
}

// logIn signs somebody in at the issuer, and waits until they are back where they were.
func (p *person) logIn(i *issuer, who string) {
	p.t.Helper()
	at := evaluate[string](p, `location.href`)
	p.leave(i)
	p.do(chromedp.Click("#" + who))
	p.until("the page is there again", fmt.Sprintf(`location.href === %q && document.getElementById("sign-out") !== null`, at))
}

// notSignedIn waits until the page says why it did not work. The tab keeps nothing then but what it had kept before.
func (p *person) notSignedIn(why string, kept ...string) {
	p.t.Helper()
	p.until("signing in did not work: "+why, fmt.Sprintf(`document.getElementById("sentence")?.innerText.includes(%q) && !document.getElementById("back").hidden`, why))
	if now := evaluate[string](p, `location.search + Object.keys(sessionStorage).join()`); now != strings.Join(kept, "") {
		p.t.Errorf("%s: the tab keeps %q", p.name, now)
	}
}

const writeHello = `(document.getElementById("text").value = "hello", document.getElementById("send").click(), true)`

// People sign in at an issuer and do what they may, until they sign out or their token ends.
func TestSigningInAtAnIssuer(t *testing.T) {
	t.Parallel()
	i := startIssuer(t)
	_, home := startUp(t, append(i.flags(), "--access", accessFile(t, i.access(`"append:guestbook", "read:guestbook"`, `"read:guestbook"`)))...)
	i.set(func() { i.home = home })
	b := startBrowser(t)
	alice := b.person("Alice")
	alice.visit(home + "/?from=here")
	alice.logIn(i, "alice")
	alice.until("one can write", `!document.getElementById("text").disabled`)
	evaluate[bool](alice, writeHello)
	alice.until("the message is visible", `document.querySelector("#messages [data-position]")?.innerText.includes("hello")`)
	if kept := evaluate[string](alice, `document.cookie + location.href + JSON.stringify(localStorage)`); strings.Contains(kept, "eyJ") {
		t.Errorf("the token is in %s", kept)
	}
	if kept := evaluate[string](alice, `Object.keys(sessionStorage).join()`); kept != "drainmark-token:/" {
		t.Errorf("besides the token there is %s", kept)
	}
	alice.visit(i.lastSent()) // the code again
	alice.notSignedIn("not begun in this tab, or has been used already", "drainmark-token:/")

	bob := b.person("Bob")
	bob.visit(home)
	bob.logIn(i, "bob")
	bob.until("the message is there", `document.body.innerText.includes("hello")`)
	evaluate[bool](bob, writeHello)
	bob.until("one may not write", `document.body.innerText.includes("You may not do this: bob is not granted append")`)
	bob.do(chromedp.Click("#sign-out"))
	bob.until("the page asks again after signing out", `document.querySelector(".sign-in[open]")?.innerText.includes("who you are")`)
	i.set(func() { i.lifetime = time.Second })
	bob.leave(i)
	bob.do(chromedp.Click("#bob"))
	bob.until("it has ended", `document.querySelector(".sign-in[open]")?.innerText.includes("Your sign-in has ended")`)
	i.set(func() { i.lifetime = time.Hour })
	bob.logIn(i, "bob")
	bob.until("the message is there again", `document.body.innerText.includes("hello")`)
}

// lastSent returns where the issuer sent somebody last.
func (i *issuer) lastSent() (url string) {
	i.set(func() { url = i.sent })
	return url
}

// Nobody is signed in by what somebody else has begun, or sent anywhere but to a page of ours.
func TestAttacksOnSigningIn(t *testing.T) {
	t.Parallel()
	i := startIssuer(t)
	_, home := startUp(t, append(i.flags(), "--access", accessFile(t, i.access(`"read:guestbook"`, `"read:guestbook"`)))...)
	i.set(func() { i.home = home })
	b := startBrowser(t)
	mallory := b.person("Mallory")
	mallory.visit(home)
	mallory.logIn(i, "bob")
	p := b.person("Vic")
	begin := func() {
		t.Helper()
		p.visit(home)
		p.leave(i)
	}
	approve := func() {
		t.Helper()
		i.mu.Lock()
		request := len(i.asked) - 1
		i.mu.Unlock()
		p.visit(fmt.Sprintf("%s/approve?request=%d&who=alice", i.URL, request))
	}
	begin()
	asked := i.tokensAsked()
	p.visit(home + "/signed-in?code=x&state=x")
	p.notSignedIn("not begun in this tab")
	p.visit(home + "/signed-in?code=x")
	p.notSignedIn("not begun in this tab")
	begin()
	p.visit(i.lastSent()) // Mallory's answer
	p.notSignedIn("not begun in this tab")
	if i.tokensAsked() != asked {
		t.Error("the issuer was asked for a token")
	}
	begin()
	p.tamper(home, `verifier: "guessed"`)
	approve()
	p.notSignedIn("the issuer does not take the code: invalid_grant")
	i.set(func() { i.nonce = "another" })
	begin()
	approve()
	p.notSignedIn("of another sign-in")
	i.set(func() { i.nonce = "" })
	for _, elsewhere := range []string{i.URL + "/keys", "//evil.example/", "javascript:alert(1)", home + "@evil.example/"} {
		begin()
		p.tamper(home, fmt.Sprintf(`back: %q`, elsewhere))
		approve()
		p.until("this is home and not "+elsewhere, fmt.Sprintf(`location.href === %q && document.getElementById("sign-out") !== null`, home+"/"))
		p.do(chromedp.Click("#sign-out"))
		p.until("nobody is signed in", `document.querySelector(".sign-in[open]") !== null`)
	}
}

func (i *issuer) tokensAsked() (n int) {
	i.set(func() { n = i.tokens })
	return n
}

// tamper changes something of what the tab keeps while it is at the issuer.
func (p *person) tamper(home, change string) {
	p.t.Helper()
	p.visit(home + "/icon.svg")
	evaluate[bool](p, `(([name]) => sessionStorage.setItem(name, JSON.stringify({ ...JSON.parse(sessionStorage.getItem(name)), `+change+` })))(Object.keys(sessionStorage)), true`)
}

// What does not work at the issuer is said, and a token still does.
func TestSigningInWhileTheIssuerIsAway(t *testing.T) {
	t.Parallel()
	i := startIssuer(t)
	_, home := startUp(t, append(i.flags(), "--access", accessFile(t, i.access(`"read:guestbook"`, `"read:guestbook"`)))...)
	i.set(func() { i.home = home })
	p := startBrowser(t).person("Ann")
	p.visit(home)
	p.leave(i)
	p.do(chromedp.Click("#nobody"))
	p.notSignedIn("the issuer, or you, refused it")
	p.do(chromedp.Click("#back"))
	p.leave(i)
	sent := fmt.Sprintf("%s/signed-in?code=x&state=%s", home, evaluate[string](p, `new URLSearchParams(location.search).get("state")`))
	i.set(func() { i.away = true })
	p.visit(sent)
	p.notSignedIn("the issuer does not answer this page")

	_, late := startUp(t, append(i.flags(), "--access", accessFile(t, "principals:\n"+principal("operator", "admin")))...)
	p.visit(late)
	p.until("it is said that the issuer is away", `document.querySelector(".sign-in[open] .elsewhere")?.innerText.includes("Only a token works now: nobody can sign in at `+i.URL+` now")`)
	p.signIn("dmk_operator")
	p.until("one is in", `document.getElementById("connection").innerText.includes("Up to date")`)
}

// The flow page, behind a frontend and a path, tells those who sign in at an issuer what they may know.
func TestSigningInOnTheFlowPage(t *testing.T) {
	t.Parallel()
	i := startIssuer(t)
	_, up := startUp(t, "--access", accessFile(t, i.access("status", `"read:guestbook"`)))
	f := newProgram(t, "frontend", append([]string{"frontend", "--listen", servers.Host + ":0", "--admin-listen", servers.Host + ":0",
		"--backend", up, "--path-prefix", "/drain/mark"}, i.flags()...)...)
	f.start()
	home := strings.TrimSuffix(f.find(`serving the API" url=(\S+)/v1`), "/v1") + "/drain/mark"
	i.set(func() { i.home = home })
	b := startBrowser(t)
	alice := b.person("Alice")
	alice.visit(home + "/flow")
	alice.logIn(i, "alice")
	alice.shows("#health-live", "live")
	alice.shows("#sentence", "All is well")
	alice.shows("#partitions", "somebody")
	alice.shows("#pause-answer", "There is no switch here")
	alice.shows("#letters-none", "You may not do this: alice is not granted letters")
	alice.do(chromedp.Click("#barrier-ask"))
	alice.shows("#barrier-answer", "You may not do this: alice is not granted barrier")
	bob := b.person("Bob")
	bob.visit(home + "/flow")
	bob.logIn(i, "bob")
	bob.shows("#sentence", "How it is is not told: You may not do this: bob is not granted status")
	bob.do(chromedp.Click("#sign-out"))
	bob.until("the page asks again", `document.querySelector(".sign-in[open]")?.innerText.includes("who you are")`)
	bob.shows("#sentence", "nobody is signed in")
}

// Whoever has pasted a token on the flow page sees, retries and switches what they may.
func TestSigningInToDeadLetters(t *testing.T) {
	t.Parallel()
	_, url := startUp(t, "--access", accessFile(t, "principals:\n"+principal("operator", "admin")+principal("mail", "status", "letters:mail")+principal("reader", "status")))
	client := newHTTPClient(t)
	for _, log := range []string{"mail", "shop"} {
		for _, body := range []string{"first", "other in " + log} { // the same key for something else
			a, err := send(t.Context(), client, request{method: "POST", url: messagesURL(url, log), body: []byte(body),
				header: []string{"Content-Type", "text/plain", "Idempotency-Key", `"k"`, "Authorization", "Bearer dmk_operator"}})
			if err != nil || a.status != http.StatusAccepted {
				t.Fatalf("appending: %d %s %v", a.status, a.body, err)
			}
		}
	}
	b := startBrowser(t)
	open := func(who string) *person {
		t.Helper()
		p := b.person(who)
		p.visit(url + "/flow")
		p.signIn("dmk_" + who)
		p.shows("#health-live", "live")
		return p
	}
	operator := open("operator")
	operator.until("there are two", `document.querySelectorAll("#letters li").length === 2`)
	operator.until("there is a switch", `!document.getElementById("pause-switch").hidden`)
	mail := open("mail")
	mail.shows("#letters li", "other in mail[^]*mail by operator: idempotency-key-reused")
	mail.until("one sees only those that one may", `document.querySelectorAll("#letters li").length === 1`)
	mail.shows("#pause-answer", "You may not do this: mail is not granted admin")
	mail.openLetter()
	mail.do(chromedp.Click("#letter-retry"), chromedp.Click("#letter-yes"))
	mail.shows("#letter-answer", "refused again")
	mail.do(chromedp.Click("#letter-close"))
	mail.openLetter()
	mail.do(chromedp.Click("#letter-discard"), chromedp.Click("#letter-yes"))
	mail.shows("#letter-answer", "discarded")
	operator.until("the other one is left", `document.querySelectorAll("#letters li").length === 1 && document.getElementById("letters").innerText.includes("other in shop")`)
	reader := open("reader")
	reader.shows("#letters-none", "You may not do this: reader is not granted letters")
	reader.do(chromedp.Click("#sign-out"))
	reader.until("the page asks again", `document.querySelector(".sign-in[open]")?.innerText.includes("who you are")`)
}
