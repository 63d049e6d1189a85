package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// appendLines appends n numbered messages in requests of up to 10,000.
func appendLines(t testing.TB, client *http.Client, url string, from, n int) {
	t.Helper()
	for n > 0 {
		batch := min(n, 10_000)
		var body bytes.Buffer
		for i := range batch {
			fmt.Fprintf(&body, "{\"body\":\"message %d\"}\n", from+i)
		}
		a, err := send(t.Context(), client, request{
			method: http.MethodPost, url: messagesURL(url, "guestbook"), body: body.Bytes(), header: []string{"Content-Type", "application/x-ndjson"},
		})
		if err != nil || a.status != http.StatusAccepted {
			t.Errorf("appending %d messages: %d %s %v", batch, a.status, a.body, err)
			return
		}
		from, n = from+batch, n-batch
	}
}

// A log of 100,000 messages is shown at once, can be read backwards, and while 500 a second come the page still works.
func TestGuestbookWithManyMessages(t *testing.T) {
	t.Parallel()
	const many, mostRows = 100_000, 300
	_, url := startUp(t)
	d := &deployment{t: t, http: newHTTPClient(t)}
	appendLines(t, d.http, url, 1, many)
	d.barrier(url)
	b := startBrowser(t)
	g := guest{b.person("Ann")}
	began := time.Now()
	g.visit(url + "/")
	g.await("the newest messages are there", func(rows []row) bool { return len(rows) == 50 && rows[0].Position == many })
	took := time.Since(began)
	t.Logf("the first messages of %d are there after %v", many, took.Round(time.Millisecond))
	if took > 10*time.Second {
		t.Error("that is too long")
	}
	readOlder(t, g, url, many, mostRows)
	underLoad(t, g, d.http, url, mostRows)
}

// readOlder loads older messages until the newest ones have made room for them, and goes back to the newest.
func readOlder(t *testing.T, g guest, url string, many, mostRows int) {
	t.Helper()
	for last := many - 50; last > many-400; last -= 50 {
		place := `[...document.querySelectorAll("#messages > li")].find((li) => li.getBoundingClientRect().bottom > 100)`
		evaluate[bool](g.person, `(scrollTo(0, document.body.scrollHeight), window.held = `+place+`, window.top0 = held.getBoundingClientRect().top, true)`)
		g.do(chromedp.Click(chromedp.CSS("#older")))
		rows := g.await(fmt.Sprintf("messages from %d on are there", last-49), func(rows []row) bool {
			return rows[len(rows)-1].Position == last-49
		})
		if len(rows) > mostRows {
			t.Errorf("there are %d rows", len(rows))
		}
		for i := 1; i < len(rows); i++ {
			if rows[i].Position != rows[i-1].Position-1 || rows[i].Text != fmt.Sprint("message ", rows[i].Position) {
				t.Fatalf("behind %+v is %+v", rows[i-1], rows[i])
			}
		}
		if moved := evaluate[float64](g.person, "Math.abs(held.getBoundingClientRect().top - top0)"); moved > 1 {
			t.Errorf("what was read has moved by %v px", moved)
		}
	}
	elsewhere(t, url, "new", "newer", "newest")
	g.saysLater("newer", "3 new messages")
	g.do(chromedp.Click(chromedp.CSS("#newer")))
	g.await("the newest are there", func(rows []row) bool { return rows[0].Text == "newest" && rows[0].Position == many+3 })
	evaluate[bool](g.person, `(scrollTo(0, 600), window.held = document.querySelectorAll("#messages > li")[8], window.top0 = held.getBoundingClientRect().top, true)`)
	elsewhere(t, url, "one", "two")
	g.saysLater("newer", "2 new messages")
	if moved := evaluate[float64](g.person, "Math.abs(held.getBoundingClientRect().top - top0)"); moved != 0 {
		t.Errorf("new messages have moved what was read by %v px", moved)
	}
	g.do(chromedp.Click(chromedp.CSS("#newer")))
	g.await("the newest are there", func(rows []row) bool {
		return rows[0].Text == "two" && rows[1].Text == "one" && rows[2].Text == "newest"
	})
}

// underLoad writes while messages come fast.
func underLoad(t *testing.T, g guest, client *http.Client, url string, mostRows int) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	sent := 0
	running.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				appendLines(t, client, url, sent, 10)
				sent += 10
			case <-ctx.Done():
				return
			}
		}
	})
	evaluate[bool](g.person, watchSteps)
	evaluate[bool](g.person, `(window.most = 0, window.longest = 0, window.frame = performance.now(), requestAnimationFrame(function next(at) {
		longest = Math.max(longest, at - frame); frame = at;
		most = Math.max(most, document.getElementById("messages").children.length); requestAnimationFrame(next); }), true)`)
	before := evaluate[int](g.person, `Number(document.querySelector("#messages > [data-position]").dataset.position)`)
	began := time.Now()
	for i := range 8 {
		text := fmt.Sprint("mine ", i)
		written := time.Now()
		g.write(text)
		g.until(text+" is visible", fmt.Sprintf("steps.some((s) => s.text === %s && s.state === 'visible')", quoted(text)))
		t.Logf("%s is visible after %v", text, time.Since(written).Round(time.Millisecond))
		if got := strings.Join(g.steps(text), " "); got != "sending accepted visible" {
			t.Errorf("%s was %s", text, got)
		}
	}
	g.until("thousand have come", fmt.Sprintf(`Number(document.querySelector("#messages > [data-position]").dataset.position) > %d`, before+1000))
	took := time.Since(began)
	t.Logf("%.0f messages/s came; the longest time between two frames was %.0f ms",
		float64(evaluate[int](g.person, `Number(document.querySelector("#messages > [data-position]").dataset.position)`)-before)/took.Seconds(),
		evaluate[float64](g.person, "longest"))
	if most := evaluate[int](g.person, "most"); most > mostRows+10 {
		t.Errorf("there were %d rows", most)
	}
}
