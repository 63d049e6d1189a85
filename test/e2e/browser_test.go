package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is one running Chromium, in which any number of people have windows.
type browser struct {
	t   testing.TB
	ctx context.Context
}

// person is somebody with a window of their own: nobody else's cookies and storage. Reloading keeps them.
type person struct {
	t    testing.TB
	name string
	ctx  context.Context

	mu       sync.Mutex
	mistakes []string // of the page: exceptions, console errors, violations of its own policy
}

// startBrowser starts a browser that ends with the test.
func startBrowser(t testing.TB) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-gpu", true),
		chromedp.WSURLReadTimeout(patience),
	)
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium refuses to run as root with it
	}
	allocator, release := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, _ := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		end, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		_ = chromedp.Cancel(end) // in order (release kills what is left, and waits for it)
		release()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("starting Chromium: %v", err)
	}
	return &browser{t: t, ctx: ctx}
}

// person opens a window for somebody. A mistake of a page that they visit fails the test.
func (b *browser) person(name string) *person {
	b.t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	p := &person{t: b.t, name: name, ctx: ctx}
	b.t.Cleanup(func() {
		if b.t.Failed() {
			b.t.Logf("what %s sees:\n%s", name, p.sees())
		}
		cancel()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, mistake := range p.mistakes {
			b.t.Errorf("%s's page: %s", name, mistake)
		}
	})
	if err := chromedp.Listen(ctx, p.listen); err != nil { // opens the window, which lives as long as ctx
		b.t.Fatalf("opening a window: %v", err)
	}
	p.do(chromedp.Func(func(ctx context.Context, window *chromedp.Target) error {
		_, err := cdp.Call(ctx, window, log.Enable, cdp.Empty{})
		return err
	}))
	return p
}

// listen notes what must not happen on a page. Requests that fail are not mistakes: servers are stopped on purpose.
func (p *person) listen(event any) {
	mistake := ""
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		mistake = (&chromedp.ExceptionError{ExceptionDetails: e.ExceptionDetails}).Error()
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError {
			for _, argument := range e.Args {
				mistake += fmt.Sprintf("%s %s ", argument.Value, argument.Description)
			}
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError && e.Entry.Source != log.EntrySourceNetwork {
			mistake = e.Entry.Text
		}
	}
	if mistake != "" {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.mistakes = append(p.mistakes, mistake)
	}
}

// visit opens a page.
func (p *person) visit(url string) {
	p.t.Helper()
	p.do(chromedp.Navigate(url))
}

// do does something with the page.
func (p *person) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
}

// evaluate returns what a JavaScript expression, or a promise that it gives, comes to.
func evaluate[T any](p *person, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %s: %v", p.name, expression, err)
	}
	return value
}

// until waits until a JavaScript expression, or a promise that it gives, is true. An error, as while another page is
// being loaded, is as good as false. (chromedp.Poll makes a function of the expression, which the page's policy forbids.)
func (p *person) until(what, expression string) {
	p.t.Helper()
	await(p.t, p.name+" sees that "+what, patience, func() bool {
		ctx, cancel := context.WithTimeout(p.ctx, patience)
		defer cancel()
		is, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Promise.resolve("+expression+").then(Boolean)", chromedp.EvalAwaitPromise))
		return err == nil && is
	})
}

// sees returns the text of the page.
func (p *person) sees() string {
	ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText"))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(text)
}

// startUp runs everything in one process of "drainmark up", with data of its own, and returns where its page is.
func startUp(t testing.TB, flags ...string) (p *program, url string) {
	t.Helper()
	p = newProgram(t, "up", append([]string{"up", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data", t.TempDir()}, flags...)...)
	p.start()
	return p, strings.TrimSuffix(p.find(`serving the API" url=(\S+)/v1`), "/v1")
}
