package httpserve

import (
	"strings"
	"testing"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend/api"
)

// Answers of the server itself have the types and titles of the API, which has a table of its own.
func TestRefusalsAreTheAPIsOwn(t *testing.T) {
	t.Parallel()
	p := api.ProblemOf(drainmark.Errorf(drainmark.KindUnavailable, "x"))
	for _, want := range []string{`"type":"` + p.Type + `"`, `"title":"` + p.Title + `"`} {
		if !strings.Contains(farewellText, want) {
			t.Errorf("the last answer has not %s:\n%s", want, farewellText)
		}
	}
}
