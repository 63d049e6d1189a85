package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// noLocks takes away what pages that come over plain HTTP from another machine do not have.
const noLocks = `Object.defineProperty(Navigator.prototype, "locks", { value: undefined })`

// A browser has six connections to a host for all its tabs.
func TestManyTabs(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	for name, before := range map[string]string{"with Web Locks": "", "without": noLocks} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testManyTabs(t, b, before)
		})
	}
}

func testManyTabs(t *testing.T, b *browser, before string) {
	_, up := startUp(t)
	d := startDoor(t, up)
	var mu sync.Mutex
	streams, most := 0, 0
	count := func(more int) int {
		mu.Lock()
		defer mu.Unlock()
		streams += more
		most = max(most, streams)
		return streams
	}
	d.set(func(w http.ResponseWriter, r *http.Request, server http.Handler) bool {
		if !strings.HasSuffix(r.URL.Path, "/events") {
			return false
		}
		count(1)
		defer count(-1)
		server.ServeHTTP(w, r)
		return true
	})
	tabs := openTabs(t, b, d.url, 8, before)
	for i, g := range tabs {
		g.saysLater("connection", "Live")
		g.saysLater("connection", "Up to date")
		g.write(fmt.Sprint("from ", i))
	}
	shows := func(tabs []guest) {
		t.Helper()
		for _, g := range tabs {
			g.await("all that everybody has written is there", func(rows []row) bool {
				for _, r := range rows {
					if r.Position == 0 || r.State != "" && r.State != "visible" {
						return false
					}
				}
				return len(rows) == 8
			})
		}
	}
	shows(tabs)
	mu.Lock()
	if most > 2 { // one that ends may still be there when the next one begins
		t.Errorf("there were %d streams at the same time", most)
	}
	mu.Unlock()
	for _, g := range tabs[:7] { // the one that has the stream is among them, or not
		g.visit("about:blank")
	}
	last := tabs[7]
	elsewhere(t, up, "news")
	last.await("what comes now is there", func(rows []row) bool { return len(rows) == 9 })
	last.saysLater("connection", "Live")
	await(t, "there is one stream", patience, func() bool { return count(0) == 1 })
}

// A browser may draw nothing of a window that is covered, and give it no frames. What comes is there all the same.
func TestATabWithoutFrames(t *testing.T) {
	t.Parallel()
	_, up := startUp(t)
	g := guest{startBrowser(t).person("Ann")}
	g.beforehand("requestAnimationFrame = () => 1")
	g.visit(up + "/")
	g.saysLater("connection", "Live")
	elsewhere(t, up, "news")
	g.await("what comes is there", func(rows []row) bool { return len(rows) == 1 })
}

// While the broker takes nothing, requests that store something last until they are given up, and waits are long. Reading
// goes on in all tabs.
func TestManyTabsThatWait(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	_, up := startUp(t)
	d := startDoor(t, up)
	release := make(chan struct{})
	d.set(func(w http.ResponseWriter, r *http.Request, server http.Handler) bool {
		if r.Method != http.MethodPost && r.Header.Get("Prefer") == "" {
			return false
		}
		body, _ := io.ReadAll(r.Body) // else it is not noticed when the page gives up
		r.Body = io.NopCloser(bytes.NewReader(body))
		select {
		case <-release:
			return false
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	})
	tabs := openTabs(t, b, d.url, 8, "")
	for i, g := range tabs {
		g.saysLater("connection", "Up to date")
		g.write(fmt.Sprint("from ", i))
	}
	elsewhere(t, up, "news")
	for _, g := range tabs {
		g.await("the news are there", func(rows []row) bool { return len(rows) > 0 && rows[len(rows)-1].Text == "news" })
	}
	flow := tabs[0].person.newTab(d.url + "/flow")
	flow.shows("#health-live", "live")
	close(release)
	for _, g := range tabs {
		g.await("all is there", func(rows []row) bool {
			for _, r := range rows {
				if r.Position == 0 {
					return false
				}
			}
			return len(rows) == 9
		})
	}
}

// A page says Live only while the stream brings something to it, also if that is another page's stream, which dies.
func TestLiveThroughAnotherTab(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	_, up := startUp(t)
	d := startDoor(t, up)
	tabs := openTabs(t, b, d.url, 2, "")
	for _, g := range tabs {
		g.saysLater("connection", "Live")
	}
	d.set(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if !strings.HasSuffix(r.URL.Path, "/events") {
			return false
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write([]byte(": not now\nretry: 600000\n\n"))
		return true
	})
	d.cut()
	for _, g := range tabs {
		g.saysLater("connection", "Refreshing every 2 s")
		evaluate[bool](g.person, `(window.modes = [], new MutationObserver(() => modes.push(document.getElementById("connection").dataset.mode))
			.observe(document.getElementById("connection"), { attributes: true, attributeFilter: ["data-mode"] }), true)`)
	}
	elsewhere(t, up, "one")
	for _, g := range tabs {
		g.shows("one")
		if modes := evaluate[string](g.person, "modes.join()"); strings.Contains(modes, "live") {
			t.Errorf("a stream that was refused was %s", modes)
		}
	}
}

// openTabs opens the guestbook in so many tabs of one person. In each a script runs before the page's.
func openTabs(t *testing.T, b *browser, url string, n int, before string) (tabs []guest) {
	t.Helper()
	first := (&browser{t, b.ctx}).person("Ann")
	for i := range n {
		p := first
		if i > 0 {
			p = first.openTab()
		}
		if before != "" {
			p.beforehand(before)
		}
		p.visit(url + "/")
		tabs = append(tabs, guest{p})
	}
	return tabs
}

// openTab opens an empty tab of the same person.
func (p *person) openTab() *person {
	p.t.Helper()
	ctx, cancel := chromedp.NewContext(p.ctx)
	p.t.Cleanup(cancel)
	tab := &person{t: p.t, name: p.name + "'s other tab", ctx: ctx}
	if err := chromedp.Listen(ctx, tab.listen); err != nil {
		p.t.Fatalf("opening a tab: %v", err)
	}
	return tab
}

// newTab opens a page in another tab of the same person.
func (p *person) newTab(url string) *person {
	p.t.Helper()
	tab := p.openTab()
	tab.visit(url)
	return tab
}

// beforehand has a script run before those of every page.
func (p *person) beforehand(script string) {
	p.t.Helper()
	command(p, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: script})
}

// testKeptOtherwise has the browser keep what other versions of the page may have left.
func testKeptOtherwise(t *testing.T, b *browser) {
	_, up := startUp(t)
	g := openGuestbook(t, b, "Ann", up)
	evaluate[bool](g.person, `(() => {
		const right = { key: "k", text: "bad", at: Date.now(), base: 0, triedAt: Date.now(), state: "checking", receipt: "", id: "", reason: "" };
		const bad = {
			state: "queued", at: 1e300, text: 5, key: "other", base: {}, triedAt: "yesterday", receipt: "../logs", id: [], maybe: "no", reason: {},
		};
		const keep = (key, text) => localStorage.setItem("drainmark-guestbook:/:" + key, text);
		for (const [part, value] of Object.entries(bad)) keep("bad-" + part, JSON.stringify({ ...right, key: "bad-" + part, [part]: value }));
		keep("no-receipt", JSON.stringify({ ...right, key: "no-receipt", state: "accepted" }));
		for (const text of ["", "null", "[]", "5", "{", '"text"', "{}"]) keep("nonsense " + text, text);
		keep("k", JSON.stringify({ key: "k", text: "right", at: Date.now(), state: "sending", news: {} }));
		window.kept = localStorage.length;
		return true;
	})()`)
	before := evaluate[int](g.person, "kept")
	g.do(chromedp.Reload())
	g.saysLater("connection", "Up to date")
	g.shows("right/visible")
	g.write("new")
	g.shows("new/visible", "right/visible")
	g.await("nothing but that is kept any more", func([]row) bool { return evaluate[int](g.person, "localStorage.length") == before-1 })
}
