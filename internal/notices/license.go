package main

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// license is one that texts are known by.
type license struct {
	name    string // of SPDX
	allowed bool
	phrases []string // a text that has all of these is one of it, or has one in it
	unless  string   // but not if it has this
}

// licenses are those that are recognized. They are allowed if a program under Apache-2.0 may have their works in it, and
// asks for no more than that their text is passed on.
var licenses = []license{
	{"Apache-2.0", true, []string{"apache license", "version 2 0 january 2004"}, ""},
	{"MIT", true, []string{"permission is hereby granted free of charge to any person obtaining a copy", "copies or substantial portions of the software"}, ""},
	{"BSD-3-Clause", true, []string{"redistribution and use in source and binary forms", "endorse or promote products"}, ""},
	{"BSD-2-Clause", true, []string{"redistribution and use in source and binary forms"}, "endorse or promote products"},
	{"ISC", true, []string{"permission to use copy modify and or distribute this software for any purpose with or without fee is hereby granted"}, ""},
	{"public domain", true, []string{"sqlite has been dedicated to the public domain by the authors"}, ""},
	{"AGPL", false, []string{"affero general public license"}, ""},
	{"GPL", false, []string{"gnu general public license"}, ""},
	{"LGPL", false, []string{"lesser general public license"}, ""},
	{"MPL", false, []string{"mozilla public license"}, ""},
	{"EPL", false, []string{"eclipse public license"}, ""},
	{"CC", false, []string{"creative commons"}, ""},
	{"BUSL", false, []string{"business source license"}, ""},
	{"SSPL", false, []string{"server side public license"}, ""},
	{"BSD-4-Clause", false, []string{"all advertising materials mentioning features"}, ""},
	{"Commons Clause", false, []string{"commons clause"}, ""},
}

// words is a text in lower case without anything between its words but one space.
func words(text string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(text), func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9')
	}), " ")
}

// recognize returns the licenses that are in a text.
func recognize(text string) (found []license) {
	text = words(text)
	for _, l := range licenses {
		all := l.unless == "" || !strings.Contains(text, l.unless)
		for _, phrase := range l.phrases {
			all = all && strings.Contains(text, phrase)
		}
		if all {
			found = append(found, l)
		}
	}
	return found
}

// judge returns the names of the licenses that a component has. It fails if it has none, one that is not allowed, or a
// text that is not recognized. A notice is passed on and not judged: it grants nothing, and may speak of licenses of works
// that are not in it.
func (c *component) judge() (names []string, err error) {
	for _, f := range c.files {
		if f.isNotice() {
			continue
		}
		found := recognize(f.text)
		if len(found) == 0 {
			return nil, fmt.Errorf("%s: the license in %s is not known", c.title(), f.name)
		}
		for _, l := range found {
			if !l.allowed {
				return nil, fmt.Errorf("%s: %s has a license that is not allowed: %s", c.title(), f.name, l.name)
			}
			if !slices.Contains(names, l.name) {
				names = append(names, l.name)
			}
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s has no license", c.title())
	}
	slices.Sort(names)
	return names, nil
}

// isNotice says whether the file is a notice by its name.
func (f file) isNotice() bool {
	return strings.HasPrefix(strings.ToLower(f.name[strings.LastIndexByte(f.name, '/')+1:]), "notice")
}

const head = `Drainmark is licensed under the Apache License, Version 2.0: see LICENSE.

The program has in it what is listed here, which others have written. Behind the
list are their licenses and notices, each text once, with those to which it applies.
"make notices" makes this file.

`

// write returns the text of the file. It names all that is wrong, not only the first.
func write(components []*component) ([]byte, error) {
	var out bytes.Buffer
	var wrong []error
	out.WriteString(head)
	whose := map[string][]string{} // by text
	var texts []string             // in their order
	for _, c := range components {
		names, err := c.judge()
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		fmt.Fprintf(&out, "%s: %s\n", c.title(), strings.Join(names, ", "))
		for _, f := range c.files {
			if whose[f.text] == nil {
				texts = append(texts, f.text)
			}
			whose[f.text] = append(whose[f.text], c.title()+", "+f.name)
		}
	}
	for _, text := range texts {
		fmt.Fprintf(&out, "\n%s\n%s\n\n%s", strings.Repeat("=", 80), strings.Join(whose[text], "\n"), text)
	}
	return out.Bytes(), errors.Join(wrong...)
}
