package drainmark_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// maxLines is how many lines a function may have, from "func" to its last brace. CONTRIBUTING.md says so too.
const maxLines = 70

// Functions are short, those of tests too, and those of the modules under deploy and bench. Code that a program has
// written would be excepted.
func TestSizeOfFunctions(t *testing.T) {
	t.Parallel()
	functions := 0
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil || ast.IsGenerated(file) {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			first := token.NoPos
			switch f := n.(type) {
			case *ast.FuncDecl:
				first = f.Type.Pos() // behind its comment
			case *ast.FuncLit:
				first = f.Pos()
			default:
				return true
			}
			functions++
			from, until := set.Position(first).Line, set.Position(n.End()).Line
			if lines := until - from + 1; lines > maxLines {
				t.Errorf("%s:%d: a function of %d lines; the limit is %d", path, from, lines, maxLines)
			}
			return true
		})
		return nil
	})
	if err != nil || functions < 5_000 {
		t.Errorf("looked at %d functions: %v", functions, err)
	}
}
