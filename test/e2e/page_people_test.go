package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// command sends a command of the browser's protocol.
func command[P, R any](p *person, c cdp.Command[P, R], parameters P) {
	p.t.Helper()
	p.do(chromedp.Func(func(ctx context.Context, window *chromedp.Target) error {
		_, err := cdp.Call(ctx, window, c, parameters)
		return err
	}))
}

// testOldBrowser takes away something that browsers have had since 2024, and the scripts altogether. Nobody is let write
// what cannot be sent.
func testOldBrowser(t *testing.T, b *browser) {
	_, up := startUp(t)
	for page, field := range map[string]bool{"/": true, "/flow": false} {
		old, off := (&browser{t, b.ctx}).person("old"), (&browser{t, b.ctx}).person("off")
		old.beforehand("delete AbortSignal.any")
		old.visit(up + page)
		old.until("it is said which browsers can do it", `!document.getElementById("unsupported").hidden &&
			/newer browser: Chrome or Edge \d+, Firefox \d+, Safari/.test(document.getElementById("unsupported").innerText)`)
		command(off, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		off.visit(up + page)
		off.until("it is said that it needs JavaScript", `document.body.innerText.includes("needs JavaScript")`)
		for _, p := range []*person{old, off} {
			if field && !evaluate[bool](p, `document.getElementById("text").disabled && document.getElementById("send").disabled`) {
				t.Errorf("%s: something can be written", p.name)
			}
		}
	}
}

// testPhone writes a line and the next one with the keyboard of a phone.
func testPhone(t *testing.T, b *browser) {
	_, up := startUp(t)
	p := (&browser{t, b.ctx}).person("Ann")
	command(p, emulation.SetTouchEmulationEnabled, emulation.SetTouchEmulationEnabledParams{Enabled: true})
	p.visit(up + "/")
	g := guest{p}
	g.saysLater("connection", "Up to date")
	if hint := evaluate[string](p, `document.getElementById("hint").innerText + document.getElementById("text").enterKeyHint`); hint != "enter" {
		t.Errorf("on a phone the page says %q", hint)
	}
	p.do(chromedp.Focus("#text"), chromedp.KeyEvent("one"), enter, chromedp.KeyEvent("two"))
	if written := evaluate[string](p, `document.getElementById("text").value`); written != "one\ntwo" {
		t.Errorf("what is written is %q", written)
	}
	p.do(chromedp.Click("#send"))
	g.shows("one\ntwo/visible")
	for _, width := range []int64{240, 280, 320, 342} {
		p.do(chromedp.EmulateViewport(width, 600))
		if wide := evaluate[int64](p, `document.documentElement.scrollWidth`); wide > width {
			t.Errorf("at a width of %d the page is %d wide", width, wide)
		}
	}
}

// With a person's own colours, the switch shows its state.
func TestFlowInForcedColours(t *testing.T) {
	t.Parallel()
	_, url := startUp(t)
	p := startBrowser(t).person("Eve")
	command(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "forced-colors", Value: "active"}},
	})
	p.visit(url + "/flow")
	p.shows("#health-live", "live")
	look := func() (track, knob string) {
		t.Helper()
		colour := func(part string) string {
			return evaluate[string](p, fmt.Sprintf(`getComputedStyle(document.querySelector("#pause-switch %s")).backgroundColor`, part))
		}
		p.until("nothing moves any more", `document.querySelector("#pause-switch").getAnimations({ subtree: true }).length === 0`)
		return colour(".track"), colour(".knob")
	}
	onTrack, onKnob := look()
	p.do(chromedp.Click("#pause-switch"))
	p.until("the switch is off", `document.getElementById("pause-switch").ariaChecked === "false"`)
	offTrack, offKnob := look()
	if onTrack == onKnob || offTrack == offKnob || onTrack == offTrack {
		t.Errorf("switched on it is %s on %s, and switched off %s on %s", onKnob, onTrack, offKnob, offTrack)
	}
}

// asRabbitMQ is a backlog as a broker has it that cannot count.
const asRabbitMQ = `{"pending":{"records":0,"exact":false},"ready":{"records":3,"exact":true},"in_flight":null,"oldest_pending_seconds":null,
	"backend":"b","partitions":[{"partition":0,"pending":{"records":0,"exact":false},"ready":{"records":3,"exact":true},"in_flight":null,
	"oldest_pending_seconds":null,"owner":"c","epoch":"1","revision":1,"cursor":"1","producers":1,"persisted":7,"missing":[],"stalled":null}]}`

// If the broker cannot count what waits, the headline says no more than is known, and the page shows the known values.
func TestFlowWhereTheBrokerCannotCount(t *testing.T) {
	t.Parallel()
	_, up := startUp(t)
	d := startDoor(t, up)
	backlog := func(text string) {
		d.set(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			if !strings.HasSuffix(r.URL.Path, "/v1/backlog") {
				return false
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, text)
			return true
		})
	}
	backlog(asRabbitMQ)
	p := startBrowser(t).visitFlow("Gil", d.url)
	p.shows("#sentence", "^Writes are accepted, a consumer works on each partition.*only a barrier tells")
	p.shows("#tile-backlog", "at least 0[^]*as one backend counts it; 3 batches lie ready in the queue")
	p.shows("#tile-oldest", "none known")
	p.shows("#tile-accepted", "about 0/s")
	p.shows("#tile-persisted", "0/s")
	p.shows("#station-broker", "none is known to wait")
	p.shows("#tank-count", "≥ 0")
	p.shows("#partitions", "at least 0[^]*none known[^]*held[^]*none is known to wait")
	p.until("nothing is unknown", `!document.querySelector("main").innerText.includes("unknown")`)
	p.fits()
	backlog(strings.ReplaceAll(asRabbitMQ, `"missing":[]`, `"missing":[{"producer":"p","first":1,"last":2}]`))
	p.shows("#sentence", "^Accepted writes are missing")
}

// The answers include what the backend says about persisting and dead letters.
func TestFlowOfWhatIsNotPersisted(t *testing.T) {
	t.Parallel()
	_, up := startUp(t)
	d := startDoor(t, up)
	answers := map[string]string{
		"/v1/status": `{"appends":{"working":true,"reason":null},"reads":{"working":true,"reason":null},
			"persisting":{"working":false,"reason":"something has waited for 41s"}}`,
		"/v1/barriers": `{"receipt":"r","state":"reached","set_aside":2}`,
	}
	d.set(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		answer, ok := answers[r.URL.Path]
		if ok {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, answer)
		}
		return ok
	})
	p := startBrowser(t).visitFlow("Hal", d.url)
	p.shows("#health-persisting", "does not work")
	p.shows("#sentence", "^Writes are accepted and can be read, but do not get into the database: something has waited for 41s")
	p.do(chromedp.Click("#barrier-ask"))
	p.shows("#barrier-answer", "Everything else[^]*2 records are set aside as dead letters")
}
