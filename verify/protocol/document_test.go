package protocol

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var statementRow = regexp.MustCompile(`(?m)^\| ([A-Z]-\d+) \| (.+) \| (.+) \|$`)

// The document and the program have the same statements, and say the same about how each is tested.
func TestStatementsAreThoseOfTheDocument(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, row := range statementRow.FindAllStringSubmatch(string(text), -1) {
		if documented[row[1]] != "" {
			t.Errorf("%s stands twice in the document", row[1])
		}
		documented[row[1]] = row[3]
	}
	for number, how := range tested(t) {
		if !strings.HasPrefix(documented[number], how) {
			t.Errorf("%s: the document says %q, and the program %q", number, documented[number], how)
		}
		delete(documented, number)
	}
	for number := range documented {
		t.Errorf("%s is in the document only", number)
	}
}

// tested returns how each statement is tested, as the document's last column begins.
func tested(t *testing.T) map[string]string {
	all := map[string]string{}
	add := func(number, how string) {
		if all[number] != "" {
			t.Errorf("%s stands twice in the program", number)
		}
		all[number] = how
	}
	for _, c := range Cases {
		add(c.Number, "played")
	}
	for _, r := range Rules {
		add(r.Number, "every answer")
	}
	for _, e := range Elsewhere {
		if promise, found := strings.CutPrefix(e.Why, judged); found {
			add(e.Number, "run: "+promise)
		} else {
			add(e.Number, "no: "+e.Why)
		}
	}
	return all
}

var routeRow = regexp.MustCompile("(?m)^\\| `([A-Z]+ /v1[^`]*)` \\|[^|]*\\| ([0-9, ]+) \\|")

// The routes of the document are those of the program, with the same statuses.
func TestRoutesAreThoseOfTheDocument(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := routeRow.FindAllStringSubmatch(string(text), -1)
	for _, row := range rows {
		if own := strings.Trim(strings.ReplaceAll(fmt.Sprint(Routes[row[1]]), " ", ", "), "[]"); own != row[2] {
			t.Errorf("%s: the document has %s, and the program %s", row[1], row[2], own)
		}
	}
	if len(rows) != len(Routes) {
		t.Errorf("the document has %d routes, and the program %d", len(rows), len(Routes))
	}
}

// A request belongs to the route that its path is of.
func TestRouteOfARequest(t *testing.T) {
	t.Parallel()
	for request, want := range map[string]string{
		"GET /v1": "GET /v1", "HEAD /v1/logs": "GET /v1/logs", "GET /v1/logs/a/events": "GET /v1/logs/{log}/events",
		"DELETE /v1/dead-letters/0-1-2": "DELETE /v1/dead-letters/{id}", "POST /v1/dead-letters/a/retry": "POST /v1/dead-letters/{id}/retry",
		"GET /v1/receipts/a,b": "GET /v1/receipts/{receipt}", "POST /v1/barriers": "POST /v1/barriers",
		"DELETE /v1/logs/a": "DELETE /v1/logs/{log}", "DELETE /v1/logs/a/messages/7": "DELETE /v1/logs/{log}/messages/{position}",
	} {
		method, path, _ := strings.Cut(request, " ")
		if got := routeOf(answer{method: method, path: path}); got != want || Routes[got] == nil {
			t.Errorf("%s is of %q, not %q", request, got, want)
		}
	}
}
