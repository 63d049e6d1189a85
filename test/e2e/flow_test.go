package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/drainmark/drainmark/test/servers"
)

// text is a JavaScript expression for the text of an element.
func text(selector string) string {
	return fmt.Sprintf("document.querySelector(%q).innerText", selector)
}

// shows waits until an element's text matches a regular expression.
func (p *person) shows(selector, pattern string) {
	p.t.Helper()
	p.until(selector+" shows "+pattern, fmt.Sprintf("new RegExp(%q).test(%s)", pattern, text(selector)))
}

// tabTo moves the focus to an element with the Tab key alone, as somebody without a mouse does.
func (p *person) tabTo(selector string) {
	p.t.Helper()
	for range 40 {
		p.do(chromedp.KeyEvent(kb.Tab))
		if evaluate[bool](p, fmt.Sprintf("document.activeElement === document.querySelector(%q)", selector)) {
			return
		}
	}
	p.t.Fatalf("%s: the Tab key does not lead to %s", p.name, selector)
}

// visitFlow opens the flow page, and waits until it is live.
func (b *browser) visitFlow(name, url string) *person {
	b.t.Helper()
	p := b.person(name)
	p.visit(url + "/flow")
	p.shows("#health-live", "live")
	return p
}

// appendMany appends so many messages, to different logs, one after the other.
func appendMany(t testing.TB, url string, n int, header ...string) {
	t.Helper()
	client := newHTTPClient(t)
	for i := range n {
		a, err := send(t.Context(), client, request{
			method: "POST", url: messagesURL(url, fmt.Sprint("log-", i%8)), body: fmt.Appendf(nil, "message %d", i),
			header: append([]string{"Content-Type", "text/plain"}, header...),
		})
		if err != nil || a.status != http.StatusAccepted {
			t.Fatalf("appending: %d %s %v", a.status, a.body, err)
		}
	}
}

// Somebody pauses the consumer with the keyboard alone, watches the queue fill and drain, and is never told that all is
// persisted while it is not.
func TestFlowOfAPausedConsumer(t *testing.T) {
	t.Parallel()
	_, url := startUp(t, "--stall-after", "1s")
	p := startBrowser(t).visitFlow("Ann", url)
	p.shows("#health-appends", "work")
	p.shows("#health-reads", "work")
	p.shows("#station-consumer", "works")

	p.tabTo("#barrier-ask")
	p.do(chromedp.KeyEvent(kb.Enter))
	p.shows("#barrier-answer", "yes")

	p.tabTo("#pause-switch")
	p.do(chromedp.KeyEvent(" "))
	p.until("the switch is off", `document.getElementById("pause-switch").ariaChecked === "false"`)
	p.shows("#station-consumer", "paused")
	p.shows("#sentence", "consumer is paused")
	p.until("the flow has stopped", `document.querySelector("#station-broker .pipe.blocked .rate").innerText === "paused"`)
	p.until("the partitions are free", `document.querySelectorAll("#partitions tr").length === 4 && !/up/.test(document.getElementById("partitions").innerText)`)

	appendMany(t, url, 20)
	p.shows("#tile-backlog", "\\b20\\b")
	p.shows("#tile-oldest", "\\d s")
	appendMany(t, url, 13)
	p.shows("#tile-backlog", "\\b33\\b")
	p.shows("#tank-count", "33")

	// Everything that it says from now on is noted.
	evaluate[bool](p, `(window.said = [], new MutationObserver(() => said.push(document.getElementById("barrier-answer").innerText))
		.observe(document.getElementById("barrier-answer"), {childList: true, subtree: true}), true)`)
	p.do(chromedp.Focus("#barrier-ask"), chromedp.KeyEvent(kb.Enter))
	p.shows("#barrier-answer", "not yet|stalled")
	p.shows("#barrier-answer", "stalled[^]*partition \\d: something has waited")
	p.shows("#tile-backlog", "\\b37\\b") // the marker is a record in each of the four partitions
	if said := evaluate[string](p, "said.join()"); strings.Contains(said, "yes") {
		t.Errorf("while everything waits, it says %s", said)
	}

	p.do(chromedp.Focus("#pause-switch"), chromedp.KeyEvent(kb.Enter))
	p.shows("#barrier-answer", "yes[^]*Everything accepted before \\d\\d:\\d\\d:\\d\\d is persisted and visible here \\(after [\\d.]+ s\\)")
	p.shows("#tile-backlog", "\\b0\\b")
	p.shows("#tile-oldest", "nothing waits")
	p.shows("#station-consumer", "works")
	p.shows("#sentence", "All is well")
	p.drewTheBacklog()
	p.shows("#chart-text", "the backlog was between 0 and 3[37]")
}

// drewTheBacklog waits until the chart has the colour of the backlog's line.
func (p *person) drewTheBacklog() {
	p.t.Helper()
	p.until("the chart has drawn the backlog", `(() => {
		const canvas = document.querySelector("#chart canvas");
		const probe = document.createElement("canvas").getContext("2d");
		probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--series-backlog");
		probe.fillRect(0, 0, 1, 1);
		const [r, g, b] = probe.getImageData(0, 0, 1, 1).data;
		const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
		let found = 0;
		for (let i = 0; i < data.length; i += 4) {
			if (Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b) < 24 && data[i + 3] > 200) found++;
		}
		return found > 20;
	})()`)
}

// openLetter clicks the first letter. The list is made anew while it is looked at, so the click is one step with finding it.
func (p *person) openLetter() {
	p.t.Helper()
	p.until("a letter is clicked", `(() => {
		const button = document.querySelector("#letters button");
		button?.click();
		return Boolean(button);
	})()`)
}

// Dead letters are listed, looked at, tried again and discarded, and the page shows the true outcome.
func TestFlowOfDeadLetters(t *testing.T) {
	t.Parallel()
	_, url := startUp(t)
	client := newHTTPClient(t)
	for _, body := range []string{"first", "<b>other</b>", strings.Repeat("third", 500)} { // the same key for something else
		header := []string{"Content-Type", "text/plain", "Idempotency-Key", `"k"`}
		if strings.HasPrefix(body, "<b>") {
			header = append(header, "Drainmark-Header-Tenant", "<i>7</i>", "Drainmark-Header-Schema", "note/2")
		}
		a, err := send(t.Context(), client, request{method: "POST", url: messagesURL(url, "guestbook"), body: []byte(body), header: header})
		if err != nil || a.status != http.StatusAccepted {
			t.Fatalf("appending: %d %s %v", a.status, a.body, err)
		}
	}
	p := startBrowser(t).visitFlow("Ben", url)
	p.until("there are two", `document.querySelectorAll("#letters li").length === 2`)
	p.shows("#letters li", "<b>other<.b>[^]*guestbook: idempotency-key-reused")

	p.fits()
	p.do(chromedp.Focus("#letters button"), chromedp.KeyEvent(kb.Enter))
	p.until("it is open", `document.getElementById("letter").open`)
	p.shows("#letter-body", "^<b>other<.b>$")
	p.shows("#letter-facts", "Reason[^]*idempotency-key-reused[^]*Accepted[^]*\\d\\d:\\d\\d:\\d\\d[^]*Attempts\\s+1")
	p.shows("#letter-facts", "Headers\\s+schema: note/2\\s+tenant: <i>7<.i>\\s+Idempotency key\\s+k")
	p.do(chromedp.Click("#letter-retry"))
	p.shows("#letter-question", "tried again")
	p.do(chromedp.Click("#letter-yes"))
	p.shows("#letter-answer", "refused again[^]*idempotency-key-reused")
	p.do(chromedp.KeyEvent(kb.Escape))
	p.until("it is closed", `!document.getElementById("letter").open`)

	p.openLetter()
	p.do(chromedp.Click("#letter-discard"))
	p.shows("#letter-question", "for good")
	p.do(chromedp.Click("#letter-no"), chromedp.Click("#letter-discard"), chromedp.Click("#letter-yes"))
	p.shows("#letter-answer", "discarded")
	p.do(chromedp.Click("#letter-close"))
	p.until("one is left", `document.querySelectorAll("#letters li").length === 1`)
	p.shows("#letters li", "third")
	p.openLetter()
	p.shows("#letter-facts", "Headers\\s+none")
	p.fits() // also with a long letter open
	p.do(chromedp.Click("#letter-close"))

	// While it waits in the queue that the letter is tried again, somebody else has given it up.
	p.do(chromedp.Click("#pause-switch"))
	p.shows("#pause-answer", "consumer is paused")
	p.openLetter()
	if _, err := ask(t.Context(), client, http.MethodDelete, url+"/v1/dead-letters/"+evaluate[string](p, `document.querySelector("#letters li").dataset.id`), 0); err != nil {
		t.Fatal(err)
	}
	p.do(chromedp.Click("#letter-retry"), chromedp.Click("#letter-yes"))
	p.shows("#letter-answer", "waits")
	evaluate[bool](p, `fetch("admin/consumer", {method: "PUT", headers: {"Content-Type": "application/json"}, body: '{"paused":false}'}).then((a) => a.ok)`)
	p.shows("#letter-answer", "discarded[^]*Somebody else")
	p.do(chromedp.Click("#letter-close"))
	p.shows("#letters-none", "There are none")

	evaluate[bool](p, worseFetch)
	manyLetters(t, p, url)
	lostAnswers(t, p)
}

// worseFetch cuts lists of dead letters short, as the server does when they are large, and notes in limits what was
// asked for. The entries of worse treat the next answer to a method or about receipts.
const worseFetch = `((real) => (window.limits = [], window.worse = {}, window.fetch = async (path, options) => {
	const limit = Number(/dead-letters\?limit=(\d+)/.exec(path)?.[1] ?? 0);
	if (limit) limits.push(limit);
	const answer = await real(path.replace("limit=" + limit, "limit=" + Math.min(limit, 15)), options);
	const kind = path.includes("/receipts/") ? "receipt" : options?.method ?? "GET";
	const treat = worse[kind];
	delete worse[kind];
	return treat ? treat(answer) : answer;
}, true))(fetch)`

// manyLetters shows more letters than the server sends at once.
func manyLetters(t *testing.T, p *person, url string) {
	t.Helper()
	lines := strings.Repeat("{\"body\":\"other\",\"key\":\"k\"}\n", 45)
	a, err := send(t.Context(), newHTTPClient(t), request{
		method: "POST", url: messagesURL(url, "guestbook"), body: []byte(lines), header: []string{"Content-Type", "application/x-ndjson", "Prefer", "wait=10"},
	})
	if err != nil || a.status != http.StatusAccepted {
		t.Fatalf("appending: %d %s %v", a.status, a.body, err)
	}
	there := func(n int) string { return fmt.Sprintf(`document.querySelectorAll("#letters li").length === %d`, n) }
	p.until("the first ones are there", there(15)+"||"+there(20))
	p.do(chromedp.Click("#letters-reload"))
	p.until("as many as usual are there", there(20))
	p.do(chromedp.Click("#letters-more"))
	p.until("more are there", there(35))
	p.do(chromedp.Click("#letters-more"))
	p.until("all are there", there(45))
	evaluate[bool](p, `(limits.length = 0, document.getElementById("letters-reload").click(), true)`)
	p.until("all have been asked for again, in three parts", `limits.includes(15)`)
	evaluate[bool](p, `(limits.length = 0, true)`)
	p.until("they are asked for by the clock", `limits.length > 1`)
	if most := evaluate[int](p, `Math.max(...limits)`); most > 20 {
		t.Errorf("%d letters were asked for at once", most)
	}
	p.until("all are still there", there(45))
}

// lostAnswers settles letters, and the answers get lost.
func lostAnswers(t *testing.T, p *person) {
	t.Helper()
	discard := func(worse string) {
		t.Helper()
		p.do(chromedp.Click("#letter-discard"))
		evaluate[bool](p, `(Object.assign(worse, `+worse+`), document.getElementById("letter-yes").click(), true)`)
	}
	p.openLetter()
	discard(`{ DELETE: () => { throw new TypeError("lost"); } }`) // it was done
	p.shows("#letter-answer", "not known[^]*may have been done")
	discard(`{}`)
	p.shows("#letter-answer", "not done again[^]*discarded before")
	p.do(chromedp.Click("#letter-close"))
	p.until("it is gone", `document.querySelectorAll("#letters li").length === 44`)
	p.openLetter()
	discard(`{ DELETE: async (a) => new Response(JSON.stringify({ ...await a.json(), state: "pending" })), receipt: () => new Response("", { status: 429 }) }`)
	p.shows("#letter-answer", "discarded[^]*deleted")
	p.do(chromedp.Click("#letter-close"))
}

// tankIsOld says whether the number in the broker's tank looks like the others that are not of now.
const tankIsOld = `(getComputedStyle(document.getElementById("tank-count")).textDecorationStyle === "dotted")`

// The page says when the backend says no, when there is no answer, and since when. It recovers.
func TestFlowOfWhatDoesNotWork(t *testing.T) {
	t.Parallel()
	nats := servers.StartNATS(t, servers.NATSOptions{})
	d := deploy(t, setup{
		broker: nats.URL(), store: "sqlite:" + filepath.Join(t.TempDir(), "store.db"), backends: 1, consumers: 1, frontend: true,
	})
	b := startBrowser(t)
	p := b.visitFlow("Cid", d.url)
	direct := b.visitFlow("Dora", d.url)
	p.shows("#pause-answer", "There is no switch here")
	if !evaluate[bool](p, `document.getElementById("pause-switch").hidden`) {
		t.Error("there is a switch")
	}
	appendMany(t, d.url, 5)
	p.shows("#tile-persisted", "\\d/s")

	nats.Kill()
	p.shows("#health-appends", "do not work")
	p.shows("#sentence", "Writes are refused now: ")
	p.shows("#health-live", "live")
	p.shows("#health-reads", "^. ?work|^work")
	p.shows("#tile-accepted", "unknown")
	p.shows("#tile-backlog", "\\d[^]* s old")
	p.until("the broker's tank is marked as old", tankIsOld)
	nats.Start()
	p.shows("#sentence", "All is well")
	p.until("the broker's tank is of now", "!"+tankIsOld)

	d.backends[0].kill()
	p.shows("#health-live", "no answer")
	p.shows("#station-backend", "no answer[^]*since \\d\\d:\\d\\d:\\d\\d")
	p.shows("#sentence", "no answer, since \\d\\d:\\d\\d:\\d\\d.*old")
	p.shows("#health-appends", "unknown")
	p.shows("#tile-persisted", "unknown")
	p.shows("#tile-backlog", "\\d[^]* s old")
	p.shows("#partitions-age", " s old")
	p.until("the broker's tank is marked as old", tankIsOld)
	d.frontend.kill()
	direct.shows("#sentence", "no answer, since \\d\\d:\\d\\d:\\d\\d.*old")
	d.frontend.start()
	d.backends[0].start()
	for _, p := range []*person{p, direct} {
		p.shows("#health-live", "live")
		p.shows("#sentence", "All is well")
		p.until("nothing is old", `!/ old/.test(document.querySelector("main").innerText)`)
	}
}

// fits checks that the page is no wider than narrow windows, so that nobody has to scroll sideways.
func (p *person) fits() {
	p.t.Helper()
	for _, width := range []int64{240, 280, 320, 360, 700, 1000} {
		p.do(chromedp.EmulateViewport(width, 740))
		if wide := evaluate[int64](p, `Math.max(document.documentElement.scrollWidth, document.getElementById("letter").scrollWidth)`); wide > width {
			p.t.Errorf("at a width of %d the page is %d wide", width, wide)
		}
	}
	p.do(chromedp.ResetViewport())
}

// There is no switch where it is turned off, and where there is one, no page of another site can use it.
func TestFlowWithoutASwitch(t *testing.T) {
	t.Parallel()
	_, off := startUp(t, "--pause-switch", "off")
	_, on := startUp(t)
	client := newHTTPClient(t)
	put := func(url string, header ...string) answer {
		t.Helper()
		a, err := send(t.Context(), client, request{
			method: "PUT", url: url + "/admin/consumer", body: []byte(`{"paused":true}`), header: append([]string{"Content-Type", "application/json"}, header...),
		})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	p := startBrowser(t).visitFlow("Fay", off)
	p.shows("#pause-answer", "There is no switch here")
	if !evaluate[bool](p, `document.getElementById("pause-switch").hidden`) {
		t.Error("there is a switch")
	}
	if a := put(off); a.status != http.StatusNotFound {
		t.Errorf("where it is turned off, PUT is answered with %d %s", a.status, a.body)
	}
	for _, header := range [][]string{{"Origin", off}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}} {
		if a := put(on, header...); a.status != http.StatusForbidden {
			t.Errorf("with %v, PUT is answered with %d %s", header, a.status, a.body)
		}
	}
	if a, err := get(t.Context(), on+"/admin/consumer"); err != nil || string(a.body) != "{\"paused\":false,\"running\":true}\n" {
		t.Errorf("the switch is %s (%v)", a.body, err)
	}
}

// The page calls unknown values unknown, and inexact ones at least so much.
func TestFlowGuessesNothing(t *testing.T) {
	t.Parallel()
	_, url := startUp(t)
	p := startBrowser(t).visitFlow("Gus", url)
	evaluate[bool](p, `import("./flow-model.js").then((m) => {
		window.m = m;
		window.backlog = (backend, exact, records, ...persisted) => ({
			backend, pending: {exact, records}, oldestPendingSeconds: null, partitions: persisted.map((persisted) => ({persisted})),
		});
		window.rates = (...answers) => {
			const made = new m.Rates();
			let at = 0;
			for (const answer of answers) window.last = made.add(answer, at += 1000);
			return [last.accepted, last.persisted, ...last.partitions].join();
		};
		return true;
	})`)
	for expression, want := range map[string]string{
		`m.countText({records: 12, exact: true})`:                                                                       "12",
		`m.countText({records: 0, exact: true})`:                                                                        "0",
		`m.countText({records: 1234, exact: false})`:                                                                    "at least 1,234",
		`m.countText({records: 0, exact: false})`:                                                                       "at least 0",
		`m.oldestText(backlog("a", true, 0), "none")`:                                                                   "none",
		`m.oldestText(backlog("a", false, 0), "none")`:                                                                  "none known",
		`m.oldestText(backlog("a", true, 3), "none")`:                                                                   "unknown",
		`m.rateText(null)`:                                                                                              "unknown",
		`m.rateText(3.14159, true)`:                                                                                     "about 3.1/s",
		`rates(backlog("a", true, 5, 10, 20))`:                                                                          ",",
		`rates(backlog("a", true, 5, 10, 20), backlog("a", true, 9, 13, 21))`:                                           "8,4,3,1",
		`rates(backlog("a", true, 5, 10, 20), backlog("a", true, 5, 10, 20))`:                                           "0,0,0,0",
		`rates(backlog("a", true, 5, 10, 20), backlog("b", true, 9, 13, 21))`:                                           ",",
		`rates(backlog("a", true, 5, 10, 20), backlog("a", false, 9, 13, 21))`:                                          ",",
		`rates(backlog("a", true, 5, 10, 20), backlog("a", true, 4, 9, 21))`:                                            ",0,,1",
		`rates(backlog("a", true, 0, 1), backlog("b", true, 0, 7), backlog("c", true, 0, 8), backlog("a", true, 3, 4))`: "2,1,1",
	} {
		if got := evaluate[string](p, `String(`+expression+`)`); got != want {
			t.Errorf("%s is %q, want %q", expression, got, want)
		}
	}
	asked := evaluate[string](p, `(async () => {
		const source = new m.Source();
		let answer;
		const asked = source.ask(() => new Promise((resolve) => (answer = resolve)));
		source.succeed("newer", 2);
		answer("older");
		return [await asked, source.value, await source.ask(async () => "newest"), source.value].join();
	})()`)
	if asked != "false,newer,true,newest" {
		t.Errorf("of an answer that is older than what is known, and one that is newer, comes %s", asked)
	}
}
