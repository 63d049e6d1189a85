// Package sqltext takes SQL apart as far as it is needed to tell statements from each other, and which kind one is.
package sqltext

import (
	"strings"
	"unicode"
)

// Split returns the statements of a text, without the semicolons between them and without those that are empty. It knows
// strings, quoted names, comments, and Postgres' dollar quotes. It does not know the bodies of triggers and routines that
// have semicolons outside of quotes.
func Split(text string) []string {
	var statements []string
	begin, blank := 0, true
	add := func(end int) {
		if !blank {
			statements = append(statements, strings.TrimSpace(text[begin:end]))
		}
		begin, blank = end+1, true
	}
	for at := 0; at < len(text); {
		end, comment := token(text, at)
		switch {
		case text[at] == ';':
			add(at)
		case !comment && strings.TrimSpace(text[at:end]) != "":
			blank = false
		}
		at = end
	}
	add(len(text))
	return statements
}

// First returns the first word of a statement, in capitals, and where the text goes on behind it.
func First(statement string) (word string, rest int) {
	for at := 0; at < len(statement); {
		end, comment := token(statement, at)
		if !comment && strings.TrimSpace(statement[at:end]) != "" {
			for end = at; end < len(statement) && isLetter(statement[end]); {
				end++
			}
			return strings.ToUpper(statement[at:end]), end
		}
		at = end
	}
	return "", len(statement)
}

func isLetter(c byte) bool { return c == '_' || unicode.IsLetter(rune(c)) }

// token returns the end of what begins at a place: a string, a quoted name, a comment, or one character. What is not
// closed ends with the text.
func token(text string, at int) (end int, comment bool) {
	rest := text[at:]
	switch {
	case strings.HasPrefix(rest, "--"):
		return at + until(rest, 2, "\n"), true
	case strings.HasPrefix(rest, "/*"):
		return at + until(rest, 2, "*/"), true
	case rest[0] == '\'' || rest[0] == '"' || rest[0] == '`':
		return at + until(rest, 1, rest[:1]), false // a doubled quote is two strings, which is the same here
	case rest[0] == '$':
		if tag := dollarTag(rest); tag != "" && (at == 0 || !isLetter(text[at-1])) {
			return at + until(rest, len(tag), tag), false
		}
	}
	return at + 1, false
}

// until returns where the text is behind the next mark that is not before from.
func until(text string, from int, mark string) int {
	if i := strings.Index(text[from:], mark); i >= 0 {
		return from + i + len(mark)
	}
	return len(text)
}

// dollarTag returns the quote that a text begins with, as in $$ or $body$, or "".
func dollarTag(text string) string {
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '$':
			return text[:i+1]
		case !isLetter(c) && (i == 1 || c < '0' || c > '9'):
			return ""
		}
	}
	return ""
}
