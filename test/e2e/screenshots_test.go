//go:build screenshots

package e2e

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

var screenshotDir = flag.String("screenshots", "", "the folder for the screenshots")

// screen is a size that a page is shown in, in CSS pixels.
type screen struct {
	name          string
	width, height int64
	scale         float64
	touch         bool // with fingers, and no keyboard
}

// TestScreenshots takes the pictures of the documentation: a guestbook in use, and the flow while its consumer has been
// paused and goes on again.
func TestScreenshots(t *testing.T) {
	_, url := startUp(t)
	b := startBrowser(t)
	ann := b.person("Ann")
	ann.visit(url + "/")
	for _, text := range []string{
		"What a lovely place! We came for the afternoon and stayed for three days.",
		"Greetings from Ljubljana 🌿",
		"The soup was excellent.\nThe bread, too.",
		"Is the path to the lighthouse open in winter?",
		"It is. Mind the wind!",
	} {
		elsewhere(t, url, text)
	}
	flow := b.visitFlow("Bob", url)
	stop := load(t, url)
	wait(20 * time.Second) // the chart needs some data
	flow.do(chromedp.Click(chromedp.CSS("#pause-switch")))
	wait(12 * time.Second)
	guest := guest{ann}
	guest.write("We will be back in spring.")
	guest.write("Thank you for everything!")
	ann.shots("guestbook", 900)
	flow.do(chromedp.Click(chromedp.CSS("#pause-switch")))
	wait(6 * time.Second)
	flow.do(chromedp.Click(chromedp.CSS("#pause-switch")))
	wait(8 * time.Second)
	flow.do(chromedp.Click(chromedp.CSS("#barrier-ask")))
	wait(3 * time.Second)
	flow.shots("flow", 1560) // as far as the chart
	stop()
}

func wait(d time.Duration) { <-time.After(d) }

// load appends some tens of messages a second to several logs.
func load(t testing.TB, url string) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	client := newHTTPClient(t)
	go func() {
		defer close(ended)
		tick := time.NewTicker(25 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ctx.Err() == nil; i++ {
			_, _ = send(ctx, client, request{
				method: http.MethodPost, url: messagesURL(url, fmt.Sprint("log-", i%7)), body: []byte("hello"), header: []string{"Content-Type", "text/plain"},
			})
			<-tick.C
		}
	}()
	return func() { cancel(); <-ended }
}

// shots takes a picture of the page in each size and colour scheme.
func (p *person) shots(name string, height int64) {
	p.t.Helper()
	for _, screen := range []screen{{"desktop", 1280, height, 1, false}, {"phone", 390, 844, 2, true}} {
		for _, scheme := range []string{"light", "dark"} {
			var picture []byte
			p.do(
				chromedp.EmulateViewport(screen.width, screen.height, chromedp.EmulateScale(screen.scale)),
				chromedp.Func(func(ctx context.Context, window *chromedp.Target) error {
					_, err := cdp.Call(ctx, window, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
						Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
					})
					return err
				}),
			)
			command(p, emulation.SetTouchEmulationEnabled, emulation.SetTouchEmulationEnabledParams{Enabled: screen.touch})
			evaluate[bool](p, "scrollTo(0, 0), true")
			wait(1500 * time.Millisecond)
			p.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) (err error) {
				picture, err = chromedp.Run(ctx, chromedp.CaptureScreenshot())
				return err
			}))
			path := filepath.Join(*screenshotDir, fmt.Sprintf("%s-%s-%s.png", name, screen.name, scheme))
			if err := os.WriteFile(path, picture, 0o644); err != nil {
				p.t.Fatal(err)
			}
		}
	}
}
