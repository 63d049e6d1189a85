// Package report writes what a run of verify leaves for people and machines into the run's folder, beside the history:
// the verdict as JSON (verdict.json) and as JUnit XML (junit.xml), and a page that explains it (index.html).
//
// The page is one file that needs nothing else. timeline.go computes what its figure shows, chart.go says how, and the
// page's script draws it with uPlot. page.go and words.go do the rest. The names of outside things in it (a fault's
// output, a counter-example) are not trusted: they are escaped, and nothing but the page's own script can run.
package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/drainmark/drainmark/verify/check"
	"github.com/drainmark/drainmark/verify/history"
)

// The files of a run's folder. The first is not written here: it is there while the run is on.
const (
	HistoryFile = "history.jsonl"
	VerdictFile = "verdict.json"
	JUnitFile   = "junit.xml"
	PageFile    = "index.html"
)

// Write writes the report of a judged history into dir, which must exist. Each file appears as a whole or not at all,
// and replaces the one that is there. After an error some may have been written.
func Write(dir string, h *history.History, r check.Result) error {
	files := []struct {
		name  string
		write func(io.Writer) error
	}{
		{VerdictFile, func(out io.Writer) error { return writeVerdict(out, &r) }},
		{JUnitFile, func(out io.Writer) error { return writeJUnit(out, h, &r) }},
		{PageFile, func(out io.Writer) error { return writePage(out, h, &r) }},
	}
	for _, file := range files {
		var content bytes.Buffer
		if err := file.write(&content); err != nil {
			return fmt.Errorf("making %s: %w", file.name, err)
		}
		if err := replace(filepath.Join(dir, file.name), content.Bytes()); err != nil {
			return fmt.Errorf("writing %s: %w", file.name, err)
		}
	}
	return nil
}

func writeVerdict(out io.Writer, r *check.Result) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// replace puts a file in its place when the whole file is on the disk.
func replace(path string, content []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	_, err = file.Write(content)
	if err == nil {
		err = file.Chmod(0o644)
	}
	if err == nil {
		err = file.Sync()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	return err
}
