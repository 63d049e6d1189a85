package app

import (
	"bytes"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// The manual page has every command, flag and variable, and groff has nothing to say against it.
func TestManPage(t *testing.T) {
	t.Parallel()
	var source, stderr bytes.Buffer
	if code := run(t.Context(), []string{"man"}, &source, &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	cmd := exec.CommandContext(t.Context(), "groff", "-man", "-ww", "-Tutf8", "-P-cbou", "-rLL=10000n") // of groff-base
	cmd.Stdin = &source
	stderr.Reset()
	cmd.Stderr = &stderr
	shown, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("groff: %v, %s", err, stderr.String())
	}
	text := strings.NewReplacer("\u2010", "-", "\u2212", "-").Replace(string(shown))
	parser, err := newParser(&cli{}, io.Discard, io.Discard, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, leaf := range parser.Model.Leaves(true) {
		for _, want := range append(wantedOf(leaf), strings.TrimSpace(leaf.FullPath())) {
			if !strings.Contains(text, want) {
				t.Errorf("the page of %s has no %s", leaf.Name, want)
			}
		}
	}
	for _, want := range []string{"NAME", "SYNOPSIS", "EXIT STATUS", "amqp://…", "--backlog-bytes=10737418240", "CONFIGURATION FILE", "--config=FILE", "DRAINMARK_CONFIG", "    listen: ${HOST:-127.0.0.1}:8080"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page has no %s:\n%s", want, text)
		}
	}
	if strings.Contains(text, "--words") || strings.Contains(text, "drainmark complete\n") {
		t.Error("the page has the command of the scripts")
	}
}

// wantedOf returns what a page says of a command: its flags, and what --help says besides them.
func wantedOf(leaf *kong.Node) (all []string) {
	for _, flag := range leaf.Flags {
		all = append(append(all, "--"+flag.Name), flag.Envs...)
	}
	for line := range strings.Lines(leaf.Detail) {
		all = append(all, strings.TrimSpace(line)) // examples among them
	}
	return all
}

// Text that would be a command to groff is text.
func TestTextOfManPage(t *testing.T) {
	t.Parallel()
	var p manual
	p.macro("TH", "X", "1")
	p.text(`.so /etc/passwd and \fB 'quoted' --flag="a\b"`)
	p.macro("B", `"x"`)
	cmd := exec.CommandContext(t.Context(), "groff", "-man", "-ww", "-Tutf8", "-P-cbou")
	cmd.Stdin = &p
	shown, err := cmd.CombinedOutput()
	text := strings.NewReplacer("\u2010", "-", "\u2212", "-").Replace(string(shown))
	if err != nil || !strings.Contains(text, `.so /etc/passwd and \fB 'quoted' --flag="a\b" "x"`) {
		t.Errorf("%v, %s", err, text)
	}
}
