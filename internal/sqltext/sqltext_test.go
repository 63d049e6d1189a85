package sqltext

import (
	"slices"
	"testing"
)

func TestSplit(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"":                                     nil,
		" ; ;\n-- only a comment\n":            nil,
		"SELECT 1":                             {"SELECT 1"},
		"SELECT 1;":                            {"SELECT 1"},
		"SELECT ';' ; SELECT \";\" AS \"a;b\"": {"SELECT ';'", "SELECT \";\" AS \"a;b\""},
		"SELECT 'it''s; one' -- ; no\n; SELECT /* ; */ 2": {"SELECT 'it''s; one' -- ; no", "SELECT /* ; */ 2"},
		"DO $$ BEGIN; END $$; SELECT $1":                  {"DO $$ BEGIN; END $$", "SELECT $1"},
		"DO $b1$ ; $$ ; $b1$":                             {"DO $b1$ ; $$ ; $b1$"},
		"SELECT a$b; SELECT '":                            {"SELECT a$b", "SELECT '"},
		"SELECT $1;SELECT $2":                             {"SELECT $1", "SELECT $2"},
	} {
		if got := Split(text); !slices.Equal(got, want) {
			t.Errorf("%q is split into %q, not %q", text, got, want)
		}
	}
}

func TestFirst(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"insert into a": "INSERT", " -- a\n/* b */\n With x": "WITH", "": "", "(select 1)": "", "-- a": "",
	} {
		if got, _ := First(text); got != want {
			t.Errorf("the first word of %q is %q, not %q", text, got, want)
		}
	}
}
