package e2e

import (
	"bytes"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
)

var idInAnswer = regexp.MustCompile(`"id":"[^"]*",`)

// testInPlace has a row get a reason, and another one go away, above what somebody reads.
func testInPlace(t *testing.T, b *browser) {
	_, up := startUp(t)
	appendLines(t, newHTTPClient(t), up, 1, 60)
	d := startDoor(t, up)
	var lost atomic.Value // the receipt of what gets lost
	var known atomic.Bool
	d.set(func(w http.ResponseWriter, r *http.Request, server http.Handler) bool {
		switch body, _ := io.ReadAll(r.Body); {
		case r.Method == http.MethodPost:
			r.Body = io.NopCloser(bytes.NewReader(body))
			if string(body) == "lost" {
				r.URL.Path = strings.Replace(r.URL.Path, "guestbook", "other", 1) // so that it does not come back
			}
			answer := answerOf(server, r)
			if string(body) == "lost" {
				lost.Store(answer.Header().Get("Drainmark-Receipt"))
			}
			answer.Header().Del("Content-Length")
			answer.Body = bytes.NewBuffer(idInAnswer.ReplaceAll(answer.Body.Bytes(), nil)) // so that it is told by its text
			copyAnswer(w, answer)
			return true
		case !strings.Contains(r.URL.Path, "/receipts/"):
			return false
		case !known.Load():
			return pending(w)
		case !strings.Contains(r.URL.Path, lost.Load().(string)):
			return false
		}
		problem(w, http.StatusGone, "receipt-expired", "no")
		return true
	})
	g := openGuestbook(t, b, "Ann", d.url)
	g.write("lost")
	g.write("mine")
	g.await("the message in the log is taken for somebody else's as yet", func(rows []row) bool {
		return len(rows) == 53 && rows[0].State == "accepted" && rows[1].State == "accepted" && rows[2].Text == "mine" && rows[2].State == ""
	})
	evaluate[bool](g.person, `(scrollTo(0, 900), window.held = [...document.querySelectorAll("#messages > li")].find((li) => li.getBoundingClientRect().top > 50),
		window.top0 = held.getBoundingClientRect().top, true)`)
	known.Store(true)
	g.await("both are settled", func(rows []row) bool {
		return len(rows) == 52 && rows[0].Text == "lost" && rows[0].Reason != "" && rows[1].State == "visible" && rows[1].Position == 61
	})
	if moved := evaluate[float64](g.person, "Math.abs(held.getBoundingClientRect().top - top0)"); moved > 1 {
		t.Errorf("what was read has moved by %v px", moved)
	}
}

// aFollower follows a made-up log. The test says what its stream brings (bring) and what a question is answered (asked,
// or last for all of them), and passes time (skip).
const aFollower = `import("./follow.js").then(({ Follower }) => {
	const now = performance.now.bind(performance);
	const json = { headers: { "Content-Type": "application/json" } };
	const some = (after, last) => Array.from({ length: Math.max(0, last - after) }, (_, i) => ({ position: after + i + 1,
		id: "0-0-" + (after + i + 1), body: "", content_type: "", accepted_at: "", persisted_at: "" }));
	Object.assign(window, { skipped: 0, asked: [], last: null, stream: null, streams: 0, begun: 0, held: false });
	performance.now = () => now() + skipped;
	window.until = async (holds) => {
		for (;;) {
			const held = holds();
			if (held) return held;
			await new Promise((resolve) => setTimeout(resolve, 5));
		}
	};
	window.bring = (to) => {
		const lines = some(follower.position, to).map((m) => "data: " + JSON.stringify(m) + "\n\n");
		stream.enqueue(new TextEncoder().encode(lines.join("")));
		return until(() => follower.position === to);
	};
	const open = (signal) => new Response(new ReadableStream({ start(c) {
		[window.stream, window.streams] = [c, streams + 1];
		c.enqueue(new TextEncoder().encode(": hello\n\n"));
		signal.addEventListener("abort", () => { try { c.error(signal.reason); } catch { /* it has ended */ } });
	} }), { headers: { "Content-Type": "text/event-stream" } });
	const real = fetch;
	window.fetch = async (path, options) => {
		if (!path.includes("/made-up/")) return real(path, options);
		if (path.includes("/events")) return held ? (streams++, new Promise(() => {})) : open(options.signal);
		const after = Number(new URL(path, location).searchParams.get("after"));
		const end = last ?? await new Promise((resolve) => asked.push(resolve));
		return new Response(JSON.stringify({ log: "made-up", messages: some(after, end).slice(0, 100), last_position: end, count: end }), json);
	};
	window.follower = new Follower("made-up", { begin: () => begun++, messages() {}, log() {}, change() {} });
	window.read = async (answer) => {
		const answered = follower.read();
		const one = await until(() => asked.shift());
		await answer(one);
		return answered;
	};
	return true;
})`

// testOldAnswers lets questions be answered from before what the stream has brought: because it is faster, because a
// replica lags, and because the log is another one.
func testOldAnswers(t *testing.T, b *browser) {
	_, up := startUp(t)
	p := (&browser{t, b.ctx}).person("Ann")
	p.visit(up + "/flow") // it follows nothing itself
	evaluate[bool](p, aFollower)
	check := func(what, expression string) {
		t.Helper()
		if !evaluate[bool](p, expression) {
			t.Errorf("not so: %s; up to date: %v, at %v, begun %v times", what, evaluate[bool](p, "follower.upToDate"),
				evaluate[float64](p, "follower.position"), evaluate[float64](p, "begun"))
		}
	}
	check("it begins", `(last = 100, follower.run(), until(() => follower.mode === "live" && follower.position === 100 && begun === 1))`)
	check("an answer is older than what has come since it was asked for",
		`(last = null, read(async (answer) => { await bring(110); answer(105); }).then(() => follower.upToDate && follower.position === 110))`)
	check("where all answers are, nothing is begun anew", `(async () => {
		for (let i = 0; i < 8; i++) {
			skipped += 5000;
			await read(async (answer) => { await bring(follower.position + 10); answer(follower.position - 5); });
		}
		return follower.upToDate && begun === 1;
	})()`)
	check("a replica lags, and the log goes on", `(async () => {
		for (let i = 0; i < 8; i++) {
			skipped += 5000;
			await read((answer) => answer(follower.position - 20));
			await bring(follower.position + 10);
		}
		return follower.upToDate && begun === 1;
	})()`)
	check("it has ended before, but perhaps it only lags", `read((answer) => answer(3)).then(() => !follower.upToDate && begun === 1)`)
	check("it is another one", `(last = 3, skipped += 21_000, follower.read(), until(() => begun === 2 && follower.position === 3))`)
	check("it is live again", `until(() => follower.mode === "live" && streams === 2)`)
	check("a stream ends and the next one has not begun", `(skipped += 3000, held = true, stream.close(),
		until(() => streams === 3).then(() => follower.mode === "connecting"))`)
}

// aList shows a made-up log in a list of its own.
const aList = `import("./list.js").then(({ MessageList }) => {
	const make = (tag) => document.body.insertBefore(document.createElement(tag), document.body.firstChild);
	const parts = { older: make("button"), list: make("ol"), empty: make("p"), newer: make("button"), heading: make("h2") };
	const nothing = () => [];
	window.rows = parts.list.children;
	window.newer = parts.newer;
	window.list = new MessageList(parts, { claim: () => false, range: nothing, beginAnew: nothing, announce: nothing });
	window.some = (log, first, last) => Array.from({ length: last - first + 1 }, (_, i) => ({ position: first + i, id: log + (first + i),
		text: "message", contentType: "text/plain", acceptedAt: new Date().toISOString() }));
	window.drawn = () => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => resolve(true))));
	return true;
})`

// testBegunAnew begins a log anew while somebody reads further down, and clears one with many messages that have not
// been drawn yet.
func testBegunAnew(t *testing.T, b *browser) {
	_, up := startUp(t)
	p := (&browser{t, b.ctx}).person("Ann")
	p.visit(up + "/flow")
	evaluate[bool](p, aList)
	for _, step := range []struct{ what, do, want string }{
		{"there are rows", `list.begin(some("a", 1, 120))`, "120 120 1 "},
		{"at the top, the newest replace them", `list.begin(some("a", 71, 120))`, "50 120 71 "},
		{"further down, the same log goes on", `(list.begin(some("a", 1, 120)), scrollTo(0, 800), list.begin(some("a", 79, 128)))`, "120 120 1 8 new messages"},
		{"again", `list.begin(some("a", 81, 130))`, "120 120 1 10 new messages"},
		{"it has gone far", `list.begin(some("a", 951, 1000))`, "120 120 1 880 new messages"},
		{"at the top they are shown", `scrollTo(0, 0)`, "50 1000 951 "},
		{"another log takes its place", `(list.begin(some("a", 1, 120)), scrollTo(0, 800), list.begin(some("b", 71, 120)))`, "50 120 71 "},
		{"what has not been drawn is cleared", `(scrollTo(0, 0), list.add(some("b", 121, 520)), list.cleared(521))`, "0   "},
		{"and it goes on", `list.add(some("b", 521, 522))`, "2 522 521 "},
	} {
		got := evaluate[string](p, `(`+step.do+`, drawn().then(() => [rows.length, rows[0]?.position, [...rows].at(-1)?.position, newer.hidden ? "" : newer.textContent].join(" ")))`)
		if got != step.want {
			t.Errorf("%s: %q, want %q", step.what, got, step.want)
		}
	}
}
