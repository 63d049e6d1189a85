package postgres

import (
	"fmt"
	"slices"
	"testing"

	"github.com/drainmark/drainmark/store"
)

func TestURLs(t *testing.T) {
	t.Parallel()
	password := "s3cret-w%40rd"
	for _, c := range []struct{ url, says string }{
		{"mysql://h/d", "must begin with postgres:// or postgresql://"},
		{"postgres://u:" + password + "@h/d?schema=", "schema"},
		{"postgres://u:" + password + "@h/d?schema=pg_catalog", "schema"},
		{"postgres://u:" + password + "@h/d?synchronous_commit=off", "synchronous_commit"},
		{"postgres://u:" + password + "@h/d?default_query_exec_mode=simple_protocol", "default_query_exec_mode"},
		{"postgres://u:" + password + "@h:port/d", "is not one that libpq would take"},
		{"postgres://u:" + password + "@h/d?sslmode=perhaps", "is not one that libpq would take"},
		{"postgres://u:" + password + "@h/d?sslmode=verify-full&sslrootcert=/nowhere", "is not one that libpq would take"},
		{"postgres://u:s3cret-w@rd%@h/d", "is not one that libpq would take"},
		{"postgres://u:" + password + "@h/d?schema=%zz", "malformed"},
	} {
		_, err := Open(t.Context(), c.url, Options{})
		fails(t, err, store.ErrMisconfigured, c.says)
		_, err = OpenReader(t.Context(), c.url, Options{})
		fails(t, err, store.ErrMisconfigured, c.says)
	}
	good, err := parseURL("postgresql://u:" + password + "@one,two:6432/d?sslmode=require&schema=other&synchronous_commit=remote_apply&target_session_attrs=standby")
	if err != nil {
		t.Fatal(err)
	}
	if good.schema != "other" || good.sync != "remote_apply" || !slices.Equal(good.nodes(), []string{"one:5432", "two:6432"}) {
		t.Errorf("the URL is read as schema %q, synchronous_commit %q, nodes %v", good.schema, good.sync, good.nodes())
	}
	node, err := good.node("two:6432")
	if err != nil || node.ConnConfig.Host != "two" || len(node.ConnConfig.Fallbacks) != 0 || node.ConnConfig.ValidateConnect != nil {
		t.Errorf("the second node: %v, %v", node, err)
	}
	for name := range node.ConnConfig.RuntimeParams {
		if name != "application_name" {
			t.Errorf("the server would be sent the parameter %s", name)
		}
	}
	if _, err := good.node("three:5432"); err == nil {
		t.Error("there is a third node")
	}
}

func TestRangesAsText(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"{}", "{[1,2)}", "{[1,501),[502,901)}", "{[4611686018427387904,)}", "{[1,9),[4611686018427387904,)}"} {
		ranges, err := parseRanges(text)
		if got := rangesText(ranges); err != nil || got != text {
			t.Errorf("%s is read as %v and written as %s: %v", text, ranges, got, err)
		}
	}
	for _, text := range []string{"", "{", "1-2", "{[a,b)}", "{[1)}", "{(,5)}"} {
		if ranges, err := parseRanges(text); err == nil {
			t.Errorf("%q is read as %v", text, fmt.Sprint(ranges))
		}
	}
}
