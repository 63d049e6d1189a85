package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/drainmark/drainmark/test/servers"
)

// row is a message as the guestbook shows it. Position is 0 as long as it is not in the log. State is empty for other
// people's messages.
type row struct {
	Text     string `json:"text"`
	State    string `json:"state"`
	Reason   string `json:"reason"`
	Position int    `json:"position"`
}

// guest is somebody who has the guestbook open.
type guest struct{ *person }

const rowsNow = `[...document.querySelectorAll("#messages > li")].map((li) => ({
	text: li.querySelector("p").textContent, state: li.dataset.state ?? "", reason: li.querySelector(".reason span")?.textContent ?? "",
	position: Number(li.dataset.position ?? 0)}))`

// watchSteps notes every state of every row, when it was reached, and how high the row is then, in window.steps.
const watchSteps = `window.steps = []; new MutationObserver((records) => {
	for (const { type, target, addedNodes } of records) {
		for (const li of type === "attributes" ? [target] : addedNodes) {
			if (li.dataset?.state) steps.push({ at: performance.now(),
				text: li.querySelector("p").textContent, state: li.dataset.state, height: li.getBoundingClientRect().height });
		}
	}
}).observe(document.getElementById("messages"), { subtree: true, childList: true, attributes: true, attributeFilter: ["data-state"] }); true`

// openGuestbook opens the page for somebody, and waits until it is up to date.
func openGuestbook(t testing.TB, b *browser, name, url string) guest {
	t.Helper()
	g := guest{(&browser{t, b.ctx}).person(name)}
	g.visit(url + "/")
	g.until("the page is up to date", `document.getElementById("connection").innerText.includes("Up to date")`)
	evaluate[bool](g.person, watchSteps)
	return g
}

// write writes a message and presses Enter.
func (g guest) write(text string) {
	g.t.Helper()
	evaluate[bool](g.person, fmt.Sprintf(`(document.getElementById("text").value = %s, document.getElementById("text").focus(), true)`, quoted(text)))
	g.do(enter)
}

// enter presses Enter. Other than with chromedp.KeyEvent, a page that handles the key keeps it from making a line break.
var enter = chromedp.Func(func(ctx context.Context, window *chromedp.Target) error {
	key := input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Key: "Enter", Code: "Enter", Text: "\r", WindowsVirtualKeyCode: 13}
	if _, err := cdp.Call(ctx, window, input.DispatchKeyEvent, key); err != nil {
		return err
	}
	key.Type, key.Text = input.DispatchKeyEventTypeKeyUp, ""
	_, err := cdp.Call(ctx, window, input.DispatchKeyEvent, key)
	return err
})

func (g guest) rows() []row {
	g.t.Helper()
	return evaluate[[]row](g.person, rowsNow)
}

// await waits until the rows are as somebody wants them, and returns them.
func (g guest) await(what string, holds func([]row) bool) (rows []row) {
	g.t.Helper()
	await(g.t, g.name+" sees that "+what, patience, func() bool {
		rows = g.rows()
		return holds(rows)
	})
	return rows
}

// shows waits until the rows are exactly these: texts, newest first, with "/state" behind the guest's own.
func (g guest) shows(want ...string) {
	g.t.Helper()
	var got []string
	defer func() {
		if g.t.Failed() {
			g.t.Logf("%s sees %q", g.name, got)
		}
	}()
	g.await(fmt.Sprintf("the messages are %q", want), func(rows []row) bool {
		got = nil
		for _, r := range rows {
			got = append(got, strings.TrimSuffix(r.Text+"/"+r.State, "/"))
		}
		return slices.Equal(got, want)
	})
}

// steps returns the states that the rows with a text have had, one after the other.
func (g guest) steps(text string) (steps []string) {
	g.t.Helper()
	type step struct {
		Text, State string
		Height      float64
	}
	var height float64
	for _, s := range evaluate[[]step](g.person, "steps") {
		if s.Text != text {
			continue
		}
		if height > 0 && s.Height > 0 && s.Height != height { // it is 0 if so much has come since that the row is gone
			g.t.Errorf("the row of %q was %v high, and is %v when it is %s", text, height, s.Height, s.State)
		}
		height = s.Height
		if len(steps) == 0 || steps[len(steps)-1] != s.State {
			steps = append(steps, s.State)
		}
	}
	return steps
}

func (g guest) status() string {
	return evaluate[string](g.person, `document.getElementById("connection").innerText`)
}

// saysLater waits until an element says something.
func (g guest) saysLater(id, text string) {
	g.t.Helper()
	g.until(id+" says "+text, fmt.Sprintf(`!document.getElementById(%s).hidden && document.getElementById(%[1]s).innerText.includes(%s)`, quoted(id), quoted(text)))
}

// quoted writes a text as JavaScript does.
func quoted(text string) string {
	b, _ := json.Marshal(text) // a string can always be written
	return string(b)
}

// elsewhere appends messages as somebody does who does not use the page.
func elsewhere(t testing.TB, url string, bodies ...string) {
	t.Helper()
	(&deployment{t: t, http: newHTTPClient(t)}).appendTo(url, "guestbook", bodies...)
}

// logged returns the texts of all messages in the log, newest first.
func logged(t testing.TB, url string) (texts []string) {
	t.Helper()
	d := &deployment{t: t, http: newHTTPClient(t)}
	for _, m := range d.readAll(url, "guestbook", d.barrier(url)) {
		texts = append(texts, m.Body)
	}
	slices.Reverse(texts)
	return texts
}

func TestGuestbook(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	for name, test := range map[string]func(*testing.T, *browser){
		"a message is sending, accepted and visible, and never moves":              testSteps,
		"everything can be done with the keyboard":                                 testKeyboard,
		"people see each other, and equal messages are neither lost nor doubled":   testTogether,
		"hostile text is shown as it is":                                           testHostile,
		"the page works behind a path that a proxy strips or leaves":               testPath,
		"what was written while the database was away, and a reload, gets there":   testAway,
		"after a cut the page catches up":                                          testCut,
		"a message that others overtake stays":                                     testOvertaken,
		"the page says that it is up to date only when it knows":                   testFresh,
		"without streams the page asks, and takes the stream again later":          testBlocked,
		"an answer that is lost is found out, and the message is there once":       testUnknown,
		"an unknown outcome that has a receipt is settled by it":                   testUnknownReceipt,
		"a message that is refused can be sent again, twice, and is there once":    testRefused,
		"an equal message of somebody else is not taken for one's own":             testSameText,
		"errors of something in between, and answers that come late, undo nothing": testLateAnswers,
		"a message is sent again a day later, where the browser keeps nothing":     testAnotherDay,
		"a message that was tried before the clock was set back is not sent again": testClockSetBack,
		"who reads further down is not disturbed by what becomes of a message":     testInPlace,
		"answers that are older than the stream mislead nobody":                    testOldAnswers,
		"a log that is begun anew does not take away what is read":                 testBegunAnew,
		"a message that is too large is refused with the limit, and can be edited": testTooLarge,
		"a message that was rejected says why":                                     testRejected,
		"a receipt that nobody can answer ends as not known":                       testReset,
		"two tabs with the same unsettled message make one of it":                  testTabs,
		"what another version of the page has kept costs only itself":              testKeptOtherwise,
		"a browser that cannot run the page is told so, and nothing is lost":       testOldBrowser,
		"on a phone, Enter begins a new line, and nothing is too wide":             testPhone,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, b)
		})
	}
}

func testSteps(t *testing.T, b *browser) {
	_, url := startUp(t)
	elsewhere(t, url, "first")
	g := openGuestbook(t, b, "Ann", url)
	g.write("hello")
	g.write("hello again")
	g.shows("hello again/visible", "hello/visible", "first")
	for _, text := range []string{"hello", "hello again"} {
		if got := g.steps(text); !slices.Equal(got, []string{"sending", "accepted", "visible"}) {
			t.Errorf("%q was %v", text, got)
		}
	}
	g.await("nothing is kept in the browser any more", func([]row) bool { return evaluate[int](g.person, "localStorage.length") == 0 })
	g.do(chromedp.Reload())
	g.shows("hello again", "hello", "first")
}

func testKeyboard(t *testing.T, b *browser) {
	_, url := startUp(t)
	for range 60 {
		elsewhere(t, url, "x")
	}
	g := openGuestbook(t, b, "Ann", url)
	evaluate[bool](g.person, `(document.activeElement.blur(), true)`)
	focused := func() string {
		return evaluate[string](g.person, `document.activeElement.id || document.activeElement.innerText`)
	}
	for _, want := range []string{"Guestbook", "Flow", "text"} {
		g.do(chromedp.KeyEvent("\t"))
		if got := focused(); got != want {
			t.Fatalf("the next thing is %q, not %q", got, want)
		}
	}
	g.do(chromedp.KeyEvent("one"), chromedp.KeyEvent("\r", chromedp.KeyModifiers(chromedp.ModifierShift)), chromedp.KeyEvent("two"), enter)
	g.until("two lines are sent with Enter", `document.querySelector("#messages > li[data-state=visible] p").textContent === "one\ntwo"`)
	g.do(enter) // nothing is written: nothing is sent
	g.do(chromedp.KeyEvent("three\t"))
	if got := focused(); got != "send" {
		t.Fatalf("behind the text is %q", got)
	}
	g.do(enter)
	g.await("the button sends too", func(rows []row) bool { return rows[0].Text == "three" && rows[0].State == "visible" && len(rows) == 52 })
	g.do(chromedp.KeyEvent("\t\t"))
	if got := focused(); got != "older" {
		t.Fatalf("behind the button is %q", got)
	}
	g.do(enter)
	g.await("all messages are there", func(rows []row) bool { return len(rows) == 62 && rows[61].Position == 1 })
}

func testTogether(t *testing.T, b *browser) {
	_, url := startUp(t)
	ann, bob := openGuestbook(t, b, "Ann", url), openGuestbook(t, b, "Bob", url)
	ann.write("from Ann")
	ann.shows("from Ann/visible")
	bob.shows("from Ann")
	bob.write("from Bob")
	ann.shows("from Bob", "from Ann/visible")
	ann.write("same")
	bob.write("same")
	ann.write("same")
	for _, g := range []guest{ann, bob} {
		g.await("there are three equal messages, and all is visible", func(rows []row) bool {
			positions := map[int]bool{}
			for _, r := range rows {
				if r.Position > 0 && (r.State == "" || r.State == "visible") {
					positions[r.Position] = true
				}
			}
			return len(rows) == 5 && len(positions) == 5
		})
	}
	if got := logged(t, url); len(got) != 5 {
		t.Errorf("the log has %q", got)
	}
	g := openGuestbook(t, b, "Cat", url)
	evaluate[bool](g.person, `(window.announced = [], new MutationObserver(() => announced.push(parseInt(document.getElementById("announcements").textContent)))
		.observe(document.getElementById("announcements"), { childList: true }), true)`)
	appendLines(t, newHTTPClient(t), url, 1, 5)
	g.until("all news are announced", "announced.reduce((a, b) => a + b, 0) === 5")
	if n := evaluate[int](g.person, "announced.length"); n > 2 {
		t.Errorf("5 messages that came together were announced in %d parts", n)
	}
}

func testHostile(t *testing.T, b *browser) {
	_, url := startUp(t)
	texts := []string{
		`<img src=x onerror="window.harmed=1"><script>window.harmed=1</script><b>bold</b> &amp; &lt;`,
		"\u202e reversed \u2066 isolated \u200f and never closed",
		strings.Repeat("w", 10_000),
		"👩‍👩‍👧‍👦 é e\u0301 ",
		"one\n\n  three, indented\n\tfour",
		`"quotes" '$&' \n %s`,
		" ",
	}
	elsewhere(t, url, texts...)
	elsewhere(t, url, "zero \x00 within")
	d := &deployment{t: t, http: newHTTPClient(t)}
	if a, err := send(t.Context(), d.http, request{method: "POST", url: messagesURL(url, "guestbook"), body: make([]byte, 12_000), header: []string{"Content-Type", "image/png"}}); err != nil || a.status != http.StatusAccepted {
		t.Fatal(a.status, err)
	}
	d.barrier(url)
	g := openGuestbook(t, b, "Ann", url)
	want := append(slices.Clone(texts), "(text/plain, 13 bytes)", "(image/png, 12 kB)")
	for i, r := range slices.Backward(g.rows()) {
		if at := len(want) - 1 - i; r.Text != want[at] {
			t.Errorf("%q is shown as %q", want[at], r.Text)
		}
	}
	for _, text := range texts[:len(texts)-1] { // the last one is blank, and not sent
		g.write(text)
		g.await("it is visible", func(rows []row) bool { return rows[0].Text == text && rows[0].State == "visible" })
	}
	if rows := g.rows(); len(rows) != len(want)+len(texts)-1 {
		t.Errorf("there are %d rows", len(rows))
	}
	if evaluate[bool](g.person, `"harmed" in window || document.querySelector("#messages :is(img, script, b)") !== null`) {
		t.Error("text was taken as HTML")
	}
	g.do(chromedp.EmulateViewport(360, 700))
	if wide := evaluate[int](g.person, `document.documentElement.scrollWidth - innerWidth`); wide > 0 {
		t.Errorf("on a phone the page is %d px too wide", wide)
	}
	if evaluate[bool](g.person, `[...document.querySelectorAll("#messages p")].some((p) => p.scrollWidth > p.clientWidth)`) {
		t.Error("on a phone a text does not fit")
	}
}

func testPath(t *testing.T, b *browser) {
	_, up := startUp(t)
	f := newProgram(t, "frontend", "frontend", "--listen", servers.Host+":0", "--admin-listen", servers.Host+":0",
		"--backend", up, "--path-prefix", "/drain/mark")
	f.start()
	left := strings.TrimSuffix(f.find(`serving the API" url=(\S+)/v1`), "/v1")
	stripping := startDoor(t, left)
	stripping.set(func(w http.ResponseWriter, r *http.Request, server http.Handler) bool {
		http.StripPrefix("/drain/mark", server).ServeHTTP(w, r)
		return true
	})
	for name, url := range map[string]string{"Ann": left, "Bob": stripping.url} {
		g := openGuestbook(t, b, name, url+"/drain/mark")
		g.write("from " + name)
		g.await("it is visible", func(rows []row) bool { return rows[0].State == "visible" })
	}
}
