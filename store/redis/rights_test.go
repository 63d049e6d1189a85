package redis

import (
	"os"
	"strings"
	"testing"
)

// Those who deploy find the rights in the documents.
func TestTheRightsAreInTheDocuments(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/deploying.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "<!-- redis rights -->")
	table, _, _ = strings.Cut(table, "<!-- /redis rights -->")
	for who, rights := range map[string]string{"backend": readerPermissions, "consumer": Permissions} {
		if !strings.Contains(table, "a "+who+" | `"+strings.ReplaceAll(rights, "|", `\|`)+"` |") {
			t.Errorf("the table does not give a %s the rights %s", who, rights)
		}
	}
}
