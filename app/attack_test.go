package app

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
)

// attack is one principal that tries to take all that there is, and another one beside it.
type attack struct {
	*program
	client           *http.Client
	attacker, victim string // tokens
	running          sync.WaitGroup
}

// beginAttack starts everything in one process with small budgets, and limits for the attacker.
func beginAttack(t testing.TB, limits string) *attack {
	t.Helper()
	attacker, one := principal(t, "attacker", `"append:*", "read:*", "barrier:*"`)
	victim, two := principal(t, "victim", `"append:*"`)
	path := filepath.Join(t.TempDir(), "access.yaml")
	writeAccess(t, path, strings.TrimSuffix(one, "}\n")+", limits: {"+limits+"}}\n", two)
	a := &attack{attacker: attacker, victim: victim, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}}
	a.program = up(t, filepath.Join(t.TempDir(), "data"), "--access", path, "--subscribers", "80", "--waiters", "80",
		"--body-bytes", "32MiB", "--answer-bytes", "64MiB", "--waiting-bytes", "32MiB")
	a.findAdmin()
	t.Cleanup(a.client.CloseIdleConnections)
	return a
}

// as sends a request of a principal's, and returns the status, 0 if there was no answer.
func (a *attack) as(ctx context.Context, token, method, path, body string, headers ...string) (status int, answer string) {
	r, err := http.NewRequestWithContext(ctx, method, a.api+path, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	r.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := a.client.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(text)
}

// stuck opens a connection, sends something, and neither sends nor reads more until ctx ends.
func (a *attack) stuck(ctx context.Context, begin string, more int) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(a.api, "http://"))
	if err != nil {
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	_, _ = fmt.Fprintf(conn, "%s\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n%s", begin, a.attacker, strings.Repeat("x", more))
	<-ctx.Done()
}

// many does something again and again, many times at once, until ctx ends. Each pauses after it, longer where it took long,
// or a slow machine would be busy with the attack alone.
func (a *attack) many(ctx context.Context, n int, do func(i int)) {
	for i := range n {
		a.running.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				do(i)
				select {
				case <-time.After(200*time.Millisecond + min(time.Since(began), 2*time.Second)):
				case <-ctx.Done():
				}
			}
		})
	}
}

// forged returns the text of a receipt of writes that nobody has made.
func (a *attack) forged(ctx context.Context) string {
	_, text := a.as(ctx, a.attacker, "POST", "/v1/logs/big/messages", "x")
	receipt, err := drainmark.ParseReceipt(regexp.MustCompile(`"receipt":"([^"]*)"`).FindStringSubmatch(text)[1])
	if err != nil {
		a.t.Fatal(err)
	}
	receipt.Spans[0].First, receipt.Spans[0].Last = 1<<40, 1<<40
	return receipt.String()
}

// everything takes whatever can be taken, until ctx ends.
func (a *attack) everything(ctx context.Context) {
	forged := a.forged(ctx)
	page := strings.Repeat(`{"body":"`+strings.Repeat(`\u0001`, 40_000)+"\"}\n", 30)
	for range 2 {
		a.awaitFor(2*time.Minute, "takes a log with large pages", func() bool {
			status, _ := a.as(ctx, a.attacker, "POST", "/v1/logs/big/messages", page, "Content-Type", "application/x-ndjson", "Prefer", "wait=30")
			return status == 201
		})
	}
	a.many(ctx, 30, func(int) { a.stuck(ctx, "GET /v1/logs/big/messages?limit=1000 HTTP/1.1", 0) })
	a.many(ctx, 30, func(int) {
		a.stuck(ctx, "POST /v1/logs/a/messages HTTP/1.1\r\nContent-Type: application/x-ndjson\r\nContent-Length: 4000000", 600_000)
	})
	a.many(ctx, 40, func(i int) { a.as(ctx, a.attacker, "GET", fmt.Sprintf("/v1/logs/nosuch%d/events", i), "") })
	a.many(ctx, 40, func(int) { a.as(ctx, a.attacker, "GET", "/v1/receipts/"+forged, "", "Prefer", "wait=60") })
	flood := strings.Repeat("{\"body\":\"x\"}\n", 5000)
	a.many(ctx, 4, func(i int) {
		a.as(ctx, a.attacker, "POST", fmt.Sprintf("/v1/logs/flood%d/messages", i), flood, "Content-Type", "application/x-ndjson")
	})
}

// series returns the numbers of a metric that has the attacker's label, by limit or budget.
func (a *attack) series(name string) map[string]float64 {
	response, err := http.Get(a.admin + "/metrics")
	if err != nil {
		return nil
	}
	defer response.Body.Close()
	found := map[string]float64{}
	lines := bufio.NewScanner(response.Body)
	pattern := regexp.MustCompile(`^` + name + `\{(?:budget|limit)="([^"]*)",principal="attacker"\} (\S+)$`)
	for lines.Scan() {
		if m := pattern.FindStringSubmatch(lines.Text()); m != nil {
			found[m[1]], _ = strconv.ParseFloat(m[2], 64)
		}
	}
	return found
}

// withinShare fails the test if the attacker holds more of anything than it may.
func (a *attack) withinShare() {
	a.t.Helper()
	limits := a.series("drainmark_http_principal_held_limit")
	for budget, held := range a.series("drainmark_http_principal_held") {
		if held > limits[budget] {
			a.t.Errorf("the attacker holds %v of %s, and may hold %v", held, budget, limits[budget])
		}
	}
}

// TestNobodyTakesAll has one principal try everything at once, while each append of another one succeeds.
func TestNobodyTakesAll(t *testing.T) {
	t.Parallel()
	a := beginAttack(t, "requests: 0")
	ctx, end := context.WithCancel(t.Context())
	defer a.running.Wait()
	defer end()
	a.everything(ctx)
	appended := 0
	var refused map[string]float64
	defer func() { t.Logf("%d appends, refused: %v", appended, refused) }()
	a.awaitFor(4*time.Minute, "refuses the attacker each budget, while the victim appends", func() bool {
		if status, text := a.as(ctx, a.victim, "POST", "/v1/logs/orders/messages", "x"); status != 202 {
			t.Errorf("append %d: %d %s", appended, status, text)
		}
		appended++
		a.withinShare()
		refused = a.series("drainmark_http_rate_limited_total")
		return appended >= 20 && refused["body-bytes"] > 0 && refused["answer-bytes"] > 0 && refused["subscribers"] > 0 && refused["waiters"] > 0
	})
	end()
	a.running.Wait()
	a.await("holds nothing for the attacker any more", func() bool {
		for _, held := range a.series("drainmark_http_principal_held") {
			if held > 0 {
				return false
			}
		}
		return true
	})
}

// p99 returns how long all but a hundredth of some appends of the victim took.
func (a *attack) p99(ctx context.Context, n int) time.Duration {
	var took []time.Duration
	for range n {
		began := time.Now()
		if status, text := a.as(ctx, a.victim, "POST", "/v1/logs/orders/messages", "x"); status != 202 {
			a.t.Errorf("%d %s", status, text)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[n*99/100]
}

// BenchmarkUnderAttack says how long the victim's appends take alone and while somebody tries to take everything, with
// nothing but shares, and with rates too.
func BenchmarkUnderAttack(b *testing.B) {
	for name, limits := range map[string]string{"shares": "requests: 0", "rates": "requests: 20, bytes: 100KiB"} {
		b.Run(name, func(b *testing.B) {
			a := beginAttack(b, limits)
			ctx, end := context.WithCancel(b.Context())
			defer a.running.Wait()
			defer end()
			a.p99(ctx, 30)
			alone := a.p99(ctx, 3000)
			a.everything(ctx)
			a.p99(ctx, 30)
			attacked := a.p99(ctx, 3000)
			b.ReportMetric(float64(alone.Microseconds())/1000, "ms-p99-alone")
			b.ReportMetric(float64(attacked.Microseconds())/1000, "ms-p99-attacked")
			b.ReportMetric(float64(attacked)/float64(alone), "ratio")
		})
	}
}
