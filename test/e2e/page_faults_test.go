package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/drainmark/drainmark/test/servers"
)

func testAway(t *testing.T, b *browser) {
	n := servers.StartNATS(t, servers.NATSOptions{})
	n.Await()
	d := deploy(t, setup{
		broker: n.URL(), store: "sqlite:" + filepath.Join(t.TempDir(), "store.db"), backends: 1, consumers: 1, frontend: true,
	})
	g := openGuestbook(t, b, "Ann", d.url)
	g.write("before")
	g.shows("before/visible")
	d.consumers[0].stop()
	g.write("one")
	g.write("two")
	g.write("two")
	g.shows("two/accepted", "two/accepted", "one/accepted", "before/visible")
	g.saysLater("queued", "3 messages are safely queued.")
	g.do(chromedp.Reload())
	g.shows("two/accepted", "two/accepted", "one/accepted", "before")
	g.saysLater("queued", "3 messages are safely queued.")
	evaluate[bool](g.person, watchSteps)
	g.write("three")
	g.saysLater("queued", "4 messages are safely queued.")
	d.consumers[0].start()
	g.shows("three/visible", "two/visible", "two/visible", "one/visible", "before")
	g.until("nothing is queued any more", `document.getElementById("queued").hidden && localStorage.length === 0`)
	if got := g.steps("three"); !slices.Equal(got, []string{"sending", "accepted", "visible"}) {
		t.Errorf("it was %v", got)
	}
	if got := logged(t, d.url); !slices.Equal(got, []string{"three", "two", "two", "one", "before"}) {
		t.Errorf("the log has %q", got)
	}
}

func testCut(t *testing.T, b *browser) {
	_, up := startUp(t)
	elsewhere(t, up, "one")
	wire := startProxy(t, strings.TrimPrefix(up, "http://"))
	g := openGuestbook(t, b, "Ann", fmt.Sprintf("http://%s:%d", servers.Host, wire.port()))
	g.saysLater("connection", "Live")
	wire.set(true, false)
	g.saysLater("connection", "No connection")
	elsewhere(t, up, "two", "three")
	g.write("four") // without a connection, nobody knows whether it was sent
	g.await("it is not known", func(rows []row) bool { return rows[0].State == "checking" })
	if status := g.status(); strings.Contains(status, "Up to date") {
		t.Errorf("without a connection the page says %q", status)
	}
	wire.set(false, false)
	g.shows("four/visible", "three", "two", "one")
	g.saysLater("connection", "Up to date")
	g.saysLater("connection", "Live")
	elsewhere(t, up, "five")
	g.shows("five", "four/visible", "three", "two", "one")
}

func testFresh(t *testing.T, b *browser) {
	_, up := startUp(t)
	elsewhere(t, up, "one")
	d := startDoor(t, up)
	g := openGuestbook(t, b, "Ann", d.url)
	g.saysLater("connection", "Live")
	pass := func(seconds int) {
		evaluate[bool](g.person, fmt.Sprintf("((then) => (performance.now = () => then() + %d000, true))(performance.now.bind(performance))", seconds))
	}
	d.set(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		problem(w, http.StatusServiceUnavailable, "unavailable", "the store does not answer")
		return true
	})
	pass(22) // the stream is still open, but the log cannot be read
	g.saysLater("connection", "Live")
	g.saysLater("connection", "Last checked 2")
	d.open()
	pass(16)
	g.saysLater("connection", "Live")
	g.saysLater("connection", "Up to date")
}

func testBlocked(t *testing.T, b *browser) {
	_, up := startUp(t)
	d := startDoor(t, up)
	var unchanged atomic.Int64
	d.set(func(w http.ResponseWriter, r *http.Request, server http.Handler) bool {
		if strings.HasSuffix(r.URL.Path, "/events") {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		if r.Header.Get("If-None-Match") == "" {
			return false
		}
		answer := answerOf(server, r)
		if answer.Code == http.StatusNotModified {
			unchanged.Add(1)
		}
		copyAnswer(w, answer)
		return true
	})
	g := openGuestbook(t, b, "Ann", d.url)
	g.saysLater("connection", "Refreshing every 2 s")
	elsewhere(t, up, "one")
	g.shows("one")
	await(t, "the page asks only for what has changed", patience, func() bool { return unchanged.Load() > 0 })
	g.write("two")
	g.shows("two/visible", "one")
	d.open()
	g.saysLater("connection", "Live")
	elsewhere(t, up, "three")
	g.shows("three", "two/visible", "one")
}

// answerOf lets the server answer a request, and returns the answer instead of sending it.
func answerOf(server http.Handler, r *http.Request) *httptest.ResponseRecorder {
	answer := httptest.NewRecorder()
	server.ServeHTTP(answer, r)
	return answer
}

func copyAnswer(w http.ResponseWriter, answer *httptest.ResponseRecorder) {
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

// problem answers as the API does.
func problem(w http.ResponseWriter, status int, kind, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"type": "urn:drainmark:problem:" + kind, "status": status, "detail": detail})
}

func testUnknown(t *testing.T, b *browser) {
	_, up := startUp(t)
	d := startDoor(t, up)
	var posts atomic.Int64
	d.set(func(w http.ResponseWriter, r *http.Request, server http.Handler) bool {
		if r.Method != http.MethodPost || posts.Add(1) > 1 {
			return false
		}
		answerOf(server, r)
		w.Header().Set("Content-Length", "98") // with no byte at all, the browser itself would send the request again
		w.WriteHeader(http.StatusAccepted)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	g := openGuestbook(t, b, "Ann", d.url)
	g.write("once")
	g.await("it is visible", func(rows []row) bool { return len(rows) == 1 && rows[0].State == "visible" })
	if got := g.steps("once"); !slices.Equal(got, []string{"sending", "checking", "accepted", "visible"}) {
		t.Errorf("it was %v", got)
	}
	if got := logged(t, up); !slices.Equal(got, []string{"once"}) || posts.Load() != 2 {
		t.Errorf("%d requests made %q", posts.Load(), got)
	}
	g.shows("once/visible")
}

func testUnknownReceipt(t *testing.T, b *browser) {
	_, up := startUp(t)
	d := startDoor(t, up)
	var posts atomic.Int64
	d.set(func(w http.ResponseWriter, r *http.Request, server http.Handler) bool {
		if r.Method != http.MethodPost {
			return false
		}
		posts.Add(1)
		w.Header().Set("Drainmark-Receipt", answerOf(server, r).Header().Get("Drainmark-Receipt"))
		problem(w, http.StatusGatewayTimeout, "outcome-unknown", "the broker does not confirm")
		return true
	})
	g := openGuestbook(t, b, "Ann", d.url)
	g.write("once")
	g.shows("once/visible")
	if got := g.steps("once"); !slices.Equal(got, []string{"sending", "checking", "visible"}) {
		t.Errorf("it was %v", got)
	}
	if posts.Load() != 1 {
		t.Errorf("it was sent %d times, and the first answer had the receipt", posts.Load())
	}
}

// testOvertaken: the answer to a message that somebody writes into an empty log comes behind the messages that others write
// after it. It stays where it is in the log.
func testOvertaken(t *testing.T, b *browser) {
	_, up := startUp(t)
	d := startDoor(t, up)
	stored, others := make(chan struct{}, 1), make(chan struct{})
	d.set(func(w http.ResponseWriter, r *http.Request, server http.Handler) bool {
		if r.Method != http.MethodPost {
			return false
		}
		answer := answerOf(server, r)
		stored <- struct{}{}
		<-others
		copyAnswer(w, answer)
		return true
	})
	g := openGuestbook(t, b, "Ann", d.url)
	g.write("first")
	<-stored
	elsewhere(t, up, "second", "third")
	g.await("what others wrote is there", func(rows []row) bool { return len(rows) == 3 })
	close(others)
	g.shows("third", "second", "first/visible")
}

func testRefused(t *testing.T, b *browser) {
	_, up := startUp(t)
	d := startDoor(t, up)
	keys := make(chan string, 16)
	d.set(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.Method == http.MethodPost {
			keys <- r.Header.Get("Idempotency-Key")
			problem(w, http.StatusServiceUnavailable, "backlog-full", "the backlog is full")
		}
		return r.Method == http.MethodPost
	})
	g := openGuestbook(t, b, "Ann", d.url)
	g.write("again")
	again := `document.querySelector(".reason button")`
	g.until("it can be sent again", again+`.textContent === "Send again"`)
	g.await("it says why", func(rows []row) bool { return rows[0].State == "refused" && rows[0].Reason == "The backlog is full." })
	g.do(chromedp.Reload())
	g.until("it can be sent again", again+`.textContent === "Send again"`)
	evaluate[bool](g.person, fmt.Sprintf(`(window.again = %s, again.click(), true)`, again))
	g.until("it is refused again", again+` !== null && `+again+` !== window.again`)
	if first, second := <-keys, <-keys; first != second || first == "" {
		t.Errorf("the keys were %q and %q", first, second)
	}
	d.open()
	evaluate[bool](g.person, fmt.Sprintf(`(window.again = %s, again.click(), again.click(), true)`, again))
	g.shows("again/visible")
	if got := logged(t, up); !slices.Equal(got, []string{"again"}) {
		t.Errorf("the log has %q", got)
	}
}

// testSameText has somebody else's equal message come first, and one's own be known to be persisted before it comes,
// and after that.
func testSameText(t *testing.T, b *browser) {
	_, up := startUp(t)
	elsewhere(t, up, "first")
	d := startDoor(t, up)
	var persisted atomic.Bool
	twins := func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.Method == http.MethodPost {
			elsewhere(t, up, "same") // answered before the guest's is sent on, so it stands before it
		}
		return strings.Contains(r.URL.Path, "/receipts/") && !persisted.Load() && pending(w)
	}
	d.set(func(w http.ResponseWriter, r *http.Request, server http.Handler) bool {
		after := r.URL.Query().Get("after")
		if strings.HasSuffix(r.URL.Path, "/events") || after == "2" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		if after == "1" { // one at a time
			r.URL.RawQuery = "after=1&limit=1"
		}
		return twins(w, r, server)
	})
	g := openGuestbook(t, b, "Ann", d.url)
	g.write("same")
	g.shows("same/accepted", "same", "first")
	persisted.Store(true)
	g.shows("same/visible", "same", "first")
	d.open()
	rows := g.await("the guest's own has its place", func(rows []row) bool { return rows[0].Position == 3 })
	g.shows("same/visible", "same", "first")
	if rows[1].Position != 2 {
		t.Errorf("the other one is %+v", rows[1])
	}

	persisted.Store(false)
	d.set(twins)
	g.saysLater("connection", "Live")
	g.write("same") // which is there, whatever its receipt says
	g.shows("same/visible", "same", "same/visible", "same", "first")

	d.set(func(w http.ResponseWriter, r *http.Request, server http.Handler) bool {
		if r.Method == http.MethodPost { // the other one stands behind the guest's, and comes with it
			answer := answerOf(server, r)
			elsewhere(t, up, "same")
			copyAnswer(w, answer)
			return true
		}
		return strings.Contains(r.URL.Path, "/receipts/") && !persisted.Load() && pending(w)
	})
	g.write("same")
	g.shows("same", "same/visible", "same/visible", "same", "same/visible", "same", "first")
}

// pending answers for a receipt.
func pending(w http.ResponseWriter) bool {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"receipt":"…","state":"pending"}`)
	return true
}

// online has the page send what it is not sure about at once, and not after a while.
func (g guest) online() {
	g.t.Helper()
	evaluate[bool](g.person, `dispatchEvent(new Event("online"))`)
}

// testLateAnswers has the first answer lost, receipts answered by a proxy that knows nothing of them, and the second
// answer say no after the receipt has said that the message is persisted.
func testLateAnswers(t *testing.T, b *browser) {
	_, up := startUp(t)
	d := startDoor(t, up)
	var posts, asked atomic.Int64
	late := make(chan struct{})
	between := []int{http.StatusTooManyRequests, http.StatusNotFound, http.StatusUnauthorized, http.StatusForbidden}
	d.set(func(w http.ResponseWriter, r *http.Request, server http.Handler) bool {
		if strings.Contains(r.URL.Path, "/receipts/") && posts.Load() < 2 {
			w.WriteHeader(between[int(asked.Add(1)-1)%len(between)])
			return true
		}
		if r.Method != http.MethodPost {
			return false
		}
		switch posts.Add(1) {
		case 1:
			w.Header().Set("Drainmark-Receipt", answerOf(server, r).Header().Get("Drainmark-Receipt"))
			problem(w, http.StatusGatewayTimeout, "outcome-unknown", "the broker does not confirm")
		case 2:
			select {
			case <-late:
			case <-r.Context().Done():
			}
			problem(w, http.StatusBadRequest, "invalid", "this comes late")
		default:
			return false
		}
		return true
	})
	g := openGuestbook(t, b, "Ann", d.url)
	g.write("once")
	await(t, "the receipt is asked for again", patience, func() bool { return asked.Load() >= 2 })
	g.shows("once/checking")
	g.online()
	g.shows("once/visible")
	g.write("next") // is sent when there is an answer to the one before
	g.shows("next/sending", "once/visible")
	close(late)
	g.shows("next/visible", "once/visible")
	if got := g.steps("once"); !slices.Equal(got, []string{"sending", "checking", "visible"}) {
		t.Errorf("it was %v", got)
	}
	g.until("nothing is kept any more", `localStorage.length === 0`)
}

// testClockSetBack reloads a message that was tried before the browser's clock was set back: nobody knows how long ago that
// was, so it is not sent again.
func testClockSetBack(t *testing.T, b *browser) {
	_, up := startUp(t)
	g := openGuestbook(t, b, "Ann", up)
	evaluate[bool](g.person, `(localStorage.setItem("drainmark-guestbook:/:of-tomorrow", JSON.stringify({ key: "of-tomorrow", text: "new",
		at: Date.now(), base: 0, triedAt: Date.now() + 3600_000, state: "checking", maybe: true, receipt: "", id: "", reason: "" })), true)`)
	g.do(chromedp.Reload())
	g.shows("new/unsettled")
	if got := logged(t, up); len(got) > 0 {
		t.Errorf("the log has %q", got)
	}
}

// testAnotherDay sends a message again that was refused long ago, and whose answers are lost now. The browser's storage
// is full.
func testAnotherDay(t *testing.T, b *browser) {
	_, up := startUp(t)
	d := startDoor(t, up)
	g := openGuestbook(t, b, "Ann", d.url)
	evaluate[bool](g.person, `(localStorage.setItem("drainmark-guestbook:/:of-yesterday", JSON.stringify({ key: "of-yesterday", text: "old",
		at: Date.now() - 25 * 3600_000, base: 0, state: "refused", receipt: "", reason: "The backlog is full." })), true)`)
	g.do(chromedp.Reload())
	g.shows("old/refused")
	var posts atomic.Int64
	d.set(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.Method == http.MethodPost {
			posts.Add(1)
			panic(http.ErrAbortHandler)
		}
		return false
	})
	evaluate[bool](g.person, `(Storage.prototype.setItem = () => { throw new DOMException("full", "QuotaExceededError"); }, true)`)
	evaluate[bool](g.person, `([...document.querySelectorAll(".reason button")].find((b) => b.textContent === "Send again").click(), true)`)
	g.await("a reload would lose it", func(rows []row) bool {
		return rows[0].State == "checking" && strings.Contains(rows[0].Reason, "do not reload")
	})
	before := posts.Load()
	g.online()
	await(t, "it is sent once more", patience, func() bool { return posts.Load() > before })
	d.open()
	g.online()
	g.await("it is visible", func(rows []row) bool { return rows[0].State == "visible" && rows[0].Reason == "" })
	if got := logged(t, up); !slices.Equal(got, []string{"old"}) {
		t.Errorf("the log has %q", got)
	}
}

func testTooLarge(t *testing.T, b *browser) {
	_, url := startUp(t)
	g := openGuestbook(t, b, "Ann", url)
	evaluate[bool](g.person, `(document.getElementById("text").value = "ä".repeat(150_000), document.getElementById("send").click(), true)`)
	g.await("it is refused with the limit", func(rows []row) bool {
		return len(rows) == 1 && rows[0].State == "refused" && strings.Contains(rows[0].Reason, "262144")
	})
	evaluate[bool](g.person, `([...document.querySelectorAll(".reason button")].find((b) => b.textContent === "Edit").click(), true)`)
	if length := evaluate[int](g.person, `document.getElementById("text").value.length`); length != 150_000 || len(g.rows()) != 0 {
		t.Errorf("%d characters are there to be edited, and %d rows", length, len(g.rows()))
	}
	if kept := evaluate[int](g.person, "localStorage.length"); kept != 0 {
		t.Errorf("%d messages are still kept", kept)
	}
}

func testRejected(t *testing.T, b *browser) {
	_, up := startUp(t)
	d := startDoor(t, up)
	d.set(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		r.Header.Set("Idempotency-Key", "taken")
		return false
	})
	elsewhere(t, d.url, "first")
	g := openGuestbook(t, b, "Ann", d.url)
	g.write("second with the same key")
	rows := g.await("it is rejected", func(rows []row) bool { return rows[0].State == "rejected" })
	if !strings.Contains(rows[0].Reason, "key") || len(rows) != 2 {
		t.Errorf("there are %+v", rows)
	}
	evaluate[bool](g.person, `([...document.querySelectorAll(".reason button")].find((b) => b.textContent === "Dismiss").click(), true)`)
	g.shows("first")
	g.do(chromedp.Reload())
	g.shows("first")
}

func testReset(t *testing.T, b *browser) {
	_, up := startUp(t)
	d := startDoor(t, up)
	var asked atomic.Int64
	for status, test := range map[int]struct{ kind, reason string }{
		http.StatusGone:       {"receipt-expired", "too long ago"},
		http.StatusBadRequest: {"invalid-receipt", "whose data is not there any more"},
	} {
		d.set(func(w http.ResponseWriter, r *http.Request, server http.Handler) bool {
			switch {
			case strings.Contains(r.URL.Path, "/receipts/"):
				asked.Add(1)
				problem(w, status, test.kind, "no")
			case r.Method == http.MethodPost: // to another log, so that it never comes back
				r.URL.Path = strings.Replace(r.URL.Path, "guestbook", "other", 1)
				return false
			default:
				return false
			}
			return true
		})
		g := openGuestbook(t, b, test.kind, d.url)
		g.write("lost")
		before := asked.Load()
		g.await("it cannot be known", func(rows []row) bool {
			return rows[0].State == "unsettled" && strings.HasPrefix(rows[0].Reason, "It was accepted, ") && strings.Contains(rows[0].Reason, test.reason)
		})
		g.do(chromedp.Reload())
		g.saysLater("connection", "Up to date")
		g.shows("lost/unsettled")
		if n := asked.Load() - before; n > 2 {
			t.Errorf("the receipt was asked for %d times", n)
		}
	}
}

func testTabs(t *testing.T, b *browser) {
	_, up := startUp(t)
	d := startDoor(t, up)
	d.set(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.Method == http.MethodPost {
			panic(http.ErrAbortHandler)
		}
		return false
	})
	first := openGuestbook(t, b, "Ann", d.url)
	first.write("mine")
	first.shows("mine/checking")
	second := guest{first.newTab(d.url + "/")}
	second.shows("mine/checking")
	d.open()
	for _, g := range []guest{first, second} {
		g.await("it is visible", func(rows []row) bool {
			return len(rows) == 1 && (rows[0].State == "visible" || rows[0].State == "") && rows[0].Position == 1
		})
	}
	if got := logged(t, up); !slices.Equal(got, []string{"mine"}) {
		t.Errorf("the log has %q", got)
	}
}
