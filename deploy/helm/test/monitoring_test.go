package chart_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/prometheus/model/labels"
	promql "github.com/prometheus/prometheus/promql/parser"
	corev1 "k8s.io/api/core/v1"
)

// metrics returns the names of the metrics that the program's source registers: those that are there as a whole, and
// those that a local function makes of a prefix and a name.
func metrics(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() && (entry.Name() == "deploy" || strings.HasPrefix(entry.Name(), ".git")) {
			if err == nil {
				err = filepath.SkipDir
			}
			return err
		}
		if entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			collectMetrics(d, found)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 50 {
		t.Fatalf("only %d metrics were found: %v", len(found), slices.Sorted(maps.Keys(found)))
	}
	return found
}

func collectMetrics(d ast.Decl, found map[string]bool) {
	prefixes := map[string]string{} // of the local functions that make metrics
	ast.Inspect(d, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if made, ok := n.Rhs[0].(*ast.FuncLit); ok {
				ast.Inspect(made, func(inner ast.Node) bool {
					if text := literal(inner); strings.HasPrefix(text, "drainmark_") && strings.HasSuffix(text, "_") {
						prefixes[n.Lhs[0].(*ast.Ident).Name] = text
					}
					return true
				})
			}
		case *ast.CallExpr:
			if name, ok := n.Fun.(*ast.Ident); ok && prefixes[name.Name] != "" && len(n.Args) > 0 {
				found[prefixes[name.Name]+literal(n.Args[0])] = true
			}
		case *ast.BasicLit:
			if text := literal(n); strings.HasPrefix(text, "drainmark_") && !strings.HasSuffix(text, "_") {
				found[text] = true
			}
		}
		return true
	})
}

func literal(n ast.Node) string {
	lit, ok := n.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	text, _ := strconv.Unquote(lit.Value)
	return text
}

var documentedMetric = regexp.MustCompile("`(drainmark_[a-z_]+)(?:\\{([a-z,]+)\\})?`")

// documented returns the labels of each metric by docs/operating.md, and docs/verifying.md for a canary's.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for _, name := range []string{"docs/operating.md", "docs/verifying.md"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range documentedMetric.FindAllStringSubmatch(string(text), -1) {
			found[m[1]] = append(found[m[1]], strings.Split(m[2], ",")...)
		}
	}
	return found
}

// Every metric is in docs/operating.md, or docs/verifying.md if it is a canary's, and every one that is there exists.
func TestEveryMetricIsDocumented(t *testing.T) {
	t.Parallel()
	known, said := metrics(t), documented(t)
	for _, role := range []string{"drainmark_consumer", "drainmark_backend", "drainmark_reader"} { // of PostgreSQL
		delete(known, role)
		delete(said, role)
	}
	for name := range known {
		if said[name] == nil {
			t.Errorf("%s is not documented", name)
		}
	}
	for name := range said {
		if !known[name] {
			t.Errorf("%s is documented, and is no metric", name)
		}
	}
}

// Labels that the ServiceMonitor, Prometheus and Kubernetes give, and metrics that others make.
var (
	givenLabels  = []string{"__name__", "namespace", "release", "role", "pod", "instance", "le"}
	otherMetrics = []string{"up", "process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"}
	histogram    = regexp.MustCompile(`_(bucket|sum|count)$`)
)

// checkQuery checks that a query is one, and that its metrics and their labels exist. $ variables are Grafana's.
func checkQuery(t *testing.T, what, query string, known map[string]bool, labelsOf map[string][]string) (of []string) {
	t.Helper()
	query = strings.NewReplacer("$__rate_interval", "5m", "$namespace", "shop", "$release", "guestbook").Replace(query)
	parsed, err := promql.NewParser(promql.Options{}).ParseExpr(query)
	if err != nil {
		t.Errorf("%s: %v in %s", what, err, query)
		return nil
	}
	check := func(metric string, names []string) {
		for _, name := range names {
			if !slices.Contains(givenLabels, name) && !slices.Contains(labelsOf[metric], name) {
				t.Errorf("%s: %s has no label %s, by the documents", what, metric, name)
			}
		}
	}
	promql.Inspect(parsed, func(node promql.Node, path []promql.Node) error {
		s, ok := node.(*promql.VectorSelector)
		if !ok {
			return nil
		}
		metric := s.Name
		if _, whole := known[metric]; !whole {
			metric = histogram.ReplaceAllString(metric, "")
		}
		of = append(of, metric)
		if !known[metric] && !slices.Contains(otherMetrics, metric) {
			t.Errorf("%s: there is no metric %s", what, metric)
		}
		var names []string
		separate := map[string]bool{}
		for _, m := range s.LabelMatchers {
			names = append(names, m.Name)
			separate[m.Name] = m.Type == labels.MatchEqual
		}
		for _, parent := range path {
			if a, ok := parent.(*promql.AggregateExpr); ok {
				names = append(names, a.Grouping...)
			}
		}
		if !separate["namespace"] || !separate["release"] && !strings.HasPrefix(metric, "drainmark_canary_") {
			t.Errorf("%s: %s is also that of other releases", what, s)
		}
		check(metric, names)
		return nil
	})
	return of
}

// Each alert asks for metrics that exist, of its own release alone, and has a section in the runbook.
func TestAlerts(t *testing.T) {
	t.Parallel()
	known, labelsOf := metrics(t), documented(t)
	runbook, err := os.ReadFile(filepath.Join(root, "docs/alerts.md"))
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^## (Drainmark\w+)$`).FindAllStringSubmatch(string(runbook), -1) {
		sections[m[1]] = true
	}
	rules := rulesOf(t, "prometheusRule: {enabled: true, alertLabels: {team: shop}}")
	if len(rules) < 15 {
		t.Fatalf("only %d alerts", len(rules))
	}
	for _, r := range rules {
		checkQuery(t, r.Alert, r.Expr.StrVal, known, labelsOf)
		if !sections[r.Alert] {
			t.Errorf("docs/alerts.md has no section %s", r.Alert)
		}
		delete(sections, r.Alert)
		want := "https://github.com/drainmark/drainmark/blob/main/docs/alerts.md#" + strings.ToLower(r.Alert)
		if r.Annotations["runbook_url"] != want {
			t.Errorf("%s: the runbook is at %s", r.Alert, r.Annotations["runbook_url"])
		}
		said := r.Annotations["summary"] != "" && r.Annotations["description"] != ""
		if r.Labels["severity"] == "" || r.Labels["team"] != "shop" || !said {
			t.Errorf("%s: labels %v, annotations %v", r.Alert, r.Labels, r.Annotations)
		}
	}
	for name := range sections {
		t.Errorf("docs/alerts.md has a section %s, and there is no such alert", name)
	}
}

// An alert can be left out.
func TestDisabledAlert(t *testing.T) {
	t.Parallel()
	for _, r := range rulesOf(t, "prometheusRule: {enabled: true, disabled: [DrainmarkDown]}") {
		if r.Alert == "DrainmarkDown" {
			t.Error("an alert that is disabled is there")
		}
	}
}

// Each alert is expected in a recording of a real failure, by a name that exists. "make alerts-test" has promtool look whether
// it fires there, and is quiet before and afterwards.
func TestEachAlertIsExpectedInARecording(t *testing.T) {
	t.Parallel()
	recordings, err := filepath.Glob(filepath.Join(root, "deploy/monitoring/recorded/*.yaml"))
	if err != nil || len(recordings) < 15 {
		t.Fatalf("there are %d recordings (%v)", len(recordings), err)
	}
	expected := map[string]bool{}
	for _, path := range recordings {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`labels: '\{alertname="(\w+)"`).FindAllStringSubmatch(string(text), -1) {
			expected[m[1]] = true
		}
	}
	for _, r := range rulesOf(t, "prometheusRule: {enabled: true}") {
		if !expected[r.Alert] {
			t.Errorf("%s is expected in no recording", r.Alert)
		}
		delete(expected, r.Alert)
	}
	for name := range expected {
		t.Errorf("a recording expects %s, which does not exist", name)
	}
}

// What docs/operating.md marks as worth an alert has one. (A canary's alerts are as its own metrics: docs/verifying.md.)
func TestMarkedMetricsHaveAlerts(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "docs/operating.md"))
	if err != nil {
		t.Fatal(err)
	}
	known, labelsOf := metrics(t), documented(t)
	watched := map[string]bool{}
	for _, r := range rulesOf(t, "prometheusRule: {enabled: true}") {
		for _, metric := range checkQuery(t, r.Alert, r.Expr.StrVal, known, labelsOf) {
			watched[metric] = true
		}
	}
	marked := 0
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "| `drainmark_") || !strings.Contains(line, "**alert**") {
			continue
		}
		for _, m := range documentedMetric.FindAllStringSubmatch(strings.Split(line, "|")[1], -1)[:1] {
			if marked++; !watched[m[1]] && !strings.HasPrefix(m[1], "drainmark_canary_") {
				t.Errorf("docs/operating.md marks %s, and no alert looks at it", m[1])
			}
		}
	}
	if marked < 15 {
		t.Errorf("only %d metrics are marked", marked)
	}
}

func rulesOf(t *testing.T, values string) []monitoring.Rule {
	t.Helper()
	for _, o := range (release{values: external + values}).objects(t) {
		typed, err := decode(o)
		if err != nil {
			t.Fatal(err)
		}
		if r, ok := typed.(*monitoring.PrometheusRule); ok {
			return r.Spec.Groups[0].Rules
		}
	}
	t.Fatal("there is no PrometheusRule")
	return nil
}

// Each panel of the dashboard asks for metrics that exist, of the release that is chosen.
func TestDashboard(t *testing.T) {
	t.Parallel()
	known, labelsOf := metrics(t), documented(t)
	var config *corev1.ConfigMap
	for _, o := range (release{values: external + "dashboard: {enabled: true}"}).objects(t) {
		typed, err := decode(o)
		if err != nil {
			t.Fatal(err)
		}
		if c, ok := typed.(*corev1.ConfigMap); ok {
			config = c
		}
	}
	if config == nil || config.Labels["grafana_dashboard"] != "1" {
		t.Fatalf("the ConfigMap is %v", config)
	}
	var board struct {
		Title, UID string
		Panels     []struct {
			ID                       int
			Title, Type, Description string
			GridPos                  struct{ X, Y, W, H int }
			Targets                  []struct{ Expr, RefID string }
		}
	}
	if err := json.Unmarshal([]byte(config.Data["drainmark.json"]), &board); err != nil {
		t.Fatal(err)
	}
	ids, queries := map[int]bool{}, 0
	for i, p := range board.Panels {
		if ids[p.ID] {
			t.Errorf("panel %q has the id of another", p.Title)
		}
		ids[p.ID] = true
		if p.Type != "row" && !strings.HasPrefix(p.Description, "Good: ") {
			t.Errorf("%q does not say what is good: %q", p.Title, p.Description)
		}
		for _, q := range p.Targets {
			queries++
			if len(checkQuery(t, p.Title, q.Expr, known, labelsOf)) == 0 {
				t.Errorf("%s asks for nothing", p.Title)
			}
		}
		for _, other := range board.Panels[:i] {
			a, b := p.GridPos, other.GridPos
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("%q lies on %q", p.Title, other.Title)
			}
		}
	}
	if queries < 30 || board.Title == "" || board.UID == "" {
		t.Errorf("the dashboard %q has %d queries", board.Title, queries)
	}
}
