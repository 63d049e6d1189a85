package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// The file says what is linked into the program. "make notices" makes it.
func TestNoticesAreOfWhatIsLinked(t *testing.T) {
	t.Parallel()
	want, err := notices(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(root, made))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not of what is linked: run make notices", made)
	}
	for _, part := range []string{"\nthe Go standard library: BSD-3-Clause\n", "\ngithub.com/prometheus/procfs v", ", NOTICE\n\nprocfs provides functions", "internal/uplot: MIT\n", "musl libc"} {
		if !strings.Contains(string(got), part) {
			t.Errorf("%s has no %q", made, part)
		}
	}
}

func TestJudging(t *testing.T) {
	t.Parallel()
	const mit = "Permission is hereby granted, free of charge, to any person\n  obtaining a copy … all copies or substantial portions of the Software."
	const bsd = "Redistribution and use in source and binary forms, with or without"
	const apache = "Apache License\n   Version 2.0, January 2004\n"
	for name, test := range map[string]struct {
		files []file
		want  string // names, or what the error says
	}{
		"one that is known":            {[]file{{"LICENSE", mit}}, "MIT"},
		"two in one text":              {[]file{{"LICENSE", mit + bsd + " … to endorse or promote products"}}, "BSD-3-Clause MIT"},
		"two texts, and a notice":      {[]file{{"LICENSE", apache}, {"sub/LICENSE", bsd}, {"sub/NOTICE.txt", "by somebody"}}, "Apache-2.0 BSD-2-Clause"},
		"none":                         {nil, "example.org/m v1.0.0 has no license"},
		"a notice alone":               {[]file{{"NOTICE", "by somebody"}}, "has no license"},
		"one that nobody knows":        {[]file{{"LICENSE", mit}, {"sub/LICENSE", "All rights reserved."}}, "the license in sub/LICENSE is not known"},
		"one that is not allowed":      {[]file{{"COPYING", "GNU GENERAL PUBLIC LICENSE\nVersion 3"}}, "COPYING has a license that is not allowed: GPL"},
		"one of two that is not":       {[]file{{"LICENSE", mit + "\n… the Mozilla Public License, v. 2.0 …"}}, "not allowed: MPL"},
		"a clause that takes it back":  {[]file{{"LICENSE", apache + "“Commons Clause” License Condition"}}, "not allowed: Commons Clause"},
		"a license called by a notice": {[]file{{"LICENSE", mit}, {"sub/NOTICE.txt", "libraries under the GNU Lesser General Public License"}}, "MIT"},
		"a license that is no notice":  {[]file{{"LICENSE", mit}, {"LICENSE-NOTICE", "GNU Lesser General Public License"}}, "not allowed: LGPL"},
	} {
		c := component{name: "example.org/m", version: "v1.0.0", files: test.files}
		names, err := c.judge()
		if got := strings.Join(names, " "); err == nil && got != test.want || err != nil && (got != "" || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if _, all := write([]*component{&c}); (all == nil) != (err == nil) {
			t.Errorf("%s: the file's error is %v", name, all)
		}
	}
}

// The licenses of a module are those beside its packages that are linked, and above them.
func TestWhichFilesAreLicenses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{
		"LICENSE", "NOTICE", "license.go", "LICENSES.csv", "COPYING.md", "a/b/License.txt", "a/LICENCE-OTHER", "c/LICENSE", "a/b/unlicense", "a/notices.txt",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name+"  \r\n\r\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	module := &struct{ Path, Version, Dir string }{"example.org/m", "v1.0.0", dir}
	components, err := componentsOf([]listed{{ImportPath: "example.org/m/a/b", Dir: filepath.Join(dir, "a/b"), Module: module}})
	if err != nil || len(components) != 1 {
		t.Fatalf("%+v, %v", components, err)
	}
	var names []string
	for _, f := range components[0].files {
		names = append(names, f.name)
		if f.text != f.name[strings.LastIndexByte(f.name, '/')+1:]+"\n" && f.text != f.name+"\n" {
			t.Errorf("%s is %q", f.name, f.text)
		}
	}
	if want := []string{"COPYING.md", "LICENSE", "NOTICE", "a/LICENCE-OTHER", "a/b/License.txt", "a/b/unlicense"}; !slices.Equal(names, want) {
		t.Errorf("they are %q", names)
	}
	if _, err := componentsOf([]listed{{ImportPath: "example.org/n"}}); err == nil {
		t.Error("a package of no module is taken")
	}
}
