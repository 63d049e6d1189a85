//go:build screenshots

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/drainmark/drainmark/test/servers"
)

// TestDashboardScreenshots takes the pictures of the dashboard: a real Prometheus scrapes a real deployment, the
// dashboard's own queries are asked there, and a page shows the answers as Grafana would arrange them. It is not Grafana,
// which Debian does not have.
func TestDashboardScreenshots(t *testing.T) {
	broker, store := servers.StartNATS(t, servers.NATSOptions{}), servers.StartRedis(t, servers.RedisOptions{})
	replicas := []*servers.Redis{servers.StartRedis(t, servers.RedisOptions{ReplicaOf: store}), servers.StartRedis(t, servers.RedisOptions{ReplicaOf: store})}
	d := deploy(t, setup{
		broker: broker.URL(), store: store.URL(), backends: 2, consumers: 2, frontend: true, replicas: [][]string{{replicas[0].URL(), replicas[1].URL()}},
		consumerFlags: []string{"--lease", "3s"},
	})
	var targets strings.Builder
	for _, p := range d.programs() {
		role, _, _ := strings.Cut(p.name, " ")
		fmt.Fprintf(&targets, "      - {targets: [%q], labels: {role: %s, instance: %q}}\n", strings.TrimPrefix(p.adminURL(), "http://"), role, p.name)
	}
	prometheus := servers.StartPrometheus(t, "global: {scrape_interval: 1s}\nscrape_configs:\n  - job_name: drainmark\n    static_configs:\n"+targets.String())
	stop := load(t, d.url)
	defer stop()
	window := startBrowser(t).person("Olga")
	wait(100 * time.Second)
	picture(window, prometheus, "dashboard-well")
	replicas[1].Kill()
	for _, c := range d.consumers {
		c.kill()
	}
	wait(45 * time.Second)
	picture(window, prometheus, "dashboard-trouble")
}

// picture takes one of the dashboard as it is now.
func picture(p *person, prometheus, name string) {
	p.t.Helper()
	b := readBoard(p.t, prometheus)
	page, height := b.page()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(page))
	}))
	defer server.Close()
	var shot []byte
	p.do(chromedp.EmulateViewport(1440, int64(height), chromedp.EmulateScale(1)))
	p.visit(server.URL)
	p.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) (err error) {
		shot, err = chromedp.Run(ctx, chromedp.CaptureScreenshot())
		return err
	}))
	if err := os.WriteFile(filepath.Join(*screenshotDir, name+".png"), shot, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// board is the dashboard, and where its queries are asked.
type board struct {
	t          testing.TB
	prometheus string
	now        time.Time
	Title      string
	Panels     []panel
}

type panel struct {
	Type, Title string
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct{ Expr, LegendFormat string }
	FieldConfig struct {
		Defaults struct {
			Unit     string
			NoValue  string
			Mappings []struct {
				Options map[string]struct{ Text string }
			}
			Thresholds struct {
				Steps []struct {
					Color string
					Value *float64
				}
			}
		}
	}
}

// series is what a query gives: a name, and values by time.
type series struct {
	name   string
	values [][2]float64
}

const shownTime = 150 * time.Second

func readBoard(t testing.TB, prometheus string) *board {
	t.Helper()
	text, err := os.ReadFile("../../deploy/monitoring/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	b := &board{t: t, prometheus: prometheus, now: time.Now()}
	if err := json.Unmarshal(text, b); err != nil {
		t.Fatal(err)
	}
	return b
}

// ask asks a panel's queries, as Grafana does where the metrics have no namespace and no release.
func (b *board) ask(p *panel) (all []series) {
	b.t.Helper()
	for _, target := range p.Targets {
		query := strings.NewReplacer("$__rate_interval", "10s", "$namespace", "", "$release", "").Replace(target.Expr)
		form := url.Values{"query": {query}, "start": {stamp(b.now.Add(-shownTime))}, "end": {stamp(b.now)}, "step": {"1"}}
		a, err := get(b.t.Context(), b.prometheus+"/api/v1/query_range?"+form.Encode())
		var answer struct {
			Data struct {
				Result []struct {
					Metric map[string]string
					Values [][2]any
				}
			}
		}
		if err == nil {
			err = json.Unmarshal(a.body, &answer)
		}
		if err != nil || a.status != http.StatusOK {
			b.t.Fatalf("%s: %d %s %v", query, a.status, a.body, err)
		}
		for _, r := range answer.Data.Result {
			s := series{name: legend(target.LegendFormat, r.Metric)}
			for _, v := range r.Values {
				at, _ := v[0].(float64)
				text, _ := v[1].(string)
				value, err := strconv.ParseFloat(text, 64)
				if err == nil && !math.IsNaN(value) {
					s.values = append(s.values, [2]float64{at, value})
				}
			}
			all = append(all, s)
		}
	}
	return all
}

func stamp(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }

func legend(format string, labels map[string]string) string {
	for name, value := range labels {
		format = strings.ReplaceAll(format, "{{"+name+"}}", value)
	}
	for _, missing := range []string{"{{pod}}", "{{instance}}", "{{replica}}"} {
		format = strings.ReplaceAll(format, missing, "")
	}
	return strings.TrimSpace(format)
}

var palette = []string{"#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#c0d8ff"}

// page returns the dashboard as HTML, and how high it is. A unit of the grid is 60 by 38 pixels, as in Grafana.
func (b *board) page() (text string, height int) {
	var page strings.Builder
	page.WriteString(`<!doctype html><title>Drainmark</title><style>
body { margin: 0; background: #111217; color: #d5d6da; font: 12px sans-serif }
section, h2 { position: absolute; box-sizing: border-box; overflow: hidden; border-radius: 3px; margin: 0 }
section { background: #181b1f; border: 1px solid #25272c; padding: 4px 8px } h2 { font-size: 15px; padding: 10px 4px }
h3 { margin: 0 0 2px; font-size: 12px; font-weight: 500 } .values { display: flex; gap: 4px; height: calc(100% - 20px) }
.value { flex: 1; border-radius: 3px; color: #fff; display: flex; flex-direction: column; justify-content: center; align-items: center }
.value b { font-size: 20px } .legend span { margin-right: 9px; white-space: nowrap } .legend { height: 16px; overflow: hidden }
</style>`)
	for i := range b.Panels {
		p := &b.Panels[i]
		g := p.GridPos
		place := fmt.Sprintf(`style="left:%dpx;top:%dpx;width:%dpx;height:%dpx"`, g.X*60+2, g.Y*38+2, g.W*60-4, g.H*38-4)
		height = max(height, (g.Y+g.H)*38+4)
		if p.Type == "row" {
			fmt.Fprintf(&page, `<h2 %s>%s</h2>`, place, html.EscapeString(p.Title))
			continue
		}
		fmt.Fprintf(&page, `<section %s><h3>%s</h3>`, place, html.EscapeString(p.Title))
		if all := b.ask(p); p.Type == "timeseries" {
			page.WriteString(b.chart(p, all))
		} else {
			page.WriteString(b.stats(p, all))
		}
		page.WriteString("</section>")
	}
	return page.String(), height
}

// stats shows the newest value of each series, in the colour of its threshold.
func (b *board) stats(p *panel, all []series) string {
	var text strings.Builder
	text.WriteString(`<div class="values">`)
	for _, s := range all {
		if len(s.values) == 0 || float64(b.now.Unix())-s.values[len(s.values)-1][0] > 10 {
			continue
		}
		value := s.values[len(s.values)-1][1]
		colour := "#3d71d9"
		for _, step := range p.FieldConfig.Defaults.Thresholds.Steps {
			if step.Value == nil || value >= *step.Value {
				colour = map[string]string{"green": "#37872d", "orange": "#c4560b", "red": "#c4162a"}[step.Color]
			}
		}
		shown := unit(p.FieldConfig.Defaults.Unit, value)
		for _, m := range p.FieldConfig.Defaults.Mappings {
			if mapped, is := m.Options[strconv.FormatFloat(value, 'f', -1, 64)]; is {
				shown = mapped.Text
			}
		}
		fmt.Fprintf(&text, `<div class="value" style="background:%s"><b>%s</b>%s</div>`, colour, html.EscapeString(shown), html.EscapeString(s.name))
	}
	if text.Len() < 30 {
		fmt.Fprintf(&text, `<div class="value"><b>%s</b></div>`, p.FieldConfig.Defaults.NoValue)
	}
	return text.String() + "</div>"
}

// chart draws the series over time.
func (b *board) chart(p *panel, all []series) string {
	width, height := float64(p.GridPos.W*60-70), float64(p.GridPos.H*38-58)
	most := 0.0
	for _, s := range all {
		for _, v := range s.values {
			most = max(most, v[1])
		}
	}
	if most == 0 {
		most = 1
	}
	var text, names strings.Builder
	fmt.Fprintf(&text, `<svg width="%v" height="%v"><g fill="#8e9099" font-size="10">`, width+50, height+10)
	for i := range 3 {
		y := height - height*float64(i)/2 + 6
		fmt.Fprintf(&text, `<text x="0" y="%.0f">%s</text><path stroke="#2c3235" d="M48 %.0fh%.0f"/>`, y+3, unit(p.FieldConfig.Defaults.Unit, most*float64(i)/2), y, width)
	}
	text.WriteString("</g>")
	from := float64(b.now.Add(-shownTime).Unix())
	slices.SortFunc(all, func(a, b series) int { return strings.Compare(a.name, b.name) })
	for i, s := range all {
		colour, last := palette[i%len(palette)], math.Inf(-1)
		fmt.Fprintf(&text, `<path fill="none" stroke-width="1.5" stroke="%s" d="`, colour)
		for _, v := range s.values {
			move := "L"
			if v[0]-last > 5 { // nothing was known for a while
				move = "M"
			}
			last = v[0]
			fmt.Fprintf(&text, "%s%.1f %.1f", move, 48+(v[0]-from)/shownTime.Seconds()*width, height-v[1]/most*height+6)
		}
		text.WriteString(`"/>`)
		fmt.Fprintf(&names, `<span><i style="color:%s">▬</i> %s</span>`, colour, html.EscapeString(s.name))
	}
	return text.String() + `</svg><div class="legend">` + names.String() + "</div>"
}

// unit writes a value.
func unit(unit string, value float64) string {
	text := strconv.FormatFloat(value, 'g', 3, 64)
	switch {
	case unit == "percentunit":
		return strconv.FormatFloat(value*100, 'g', 3, 64) + " %"
	case unit == "s" && value < 1:
		return strconv.FormatFloat(value*1000, 'g', 3, 64) + " ms"
	case unit == "s":
		return text + " s"
	case unit == "bytes":
		return strconv.FormatFloat(value/(1<<20), 'f', 0, 64) + " MiB"
	}
	return text
}
