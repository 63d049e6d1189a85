// Command notices writes THIRD_PARTY_NOTICES: what the program has in it that others have written, with the license of
// each. "make notices" runs it, and its test fails when the file is not what is linked, or a license is not allowed.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const (
	ours = "github.com/drainmark/drainmark"
	made = "THIRD_PARTY_NOTICES" // in the project's root
)

// platforms are those of a release. What is linked differs between them.
var platforms = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64"}

// passedOver are files of modules that look like a license of what is linked, and are none.
var passedOver = map[string]string{
	"modernc.org/memory/LICENSE-LOGO":                           "says where a picture is from that is not linked",
	"modernc.org/sqlite/LICENSE-3RD-PARTY.md":                   "lists all modules of a graph: those that are linked are here by themselves",
	"modernc.org/sqlite/LICENSE-SQLITE_VEC":                     "is of the package vec, which is not linked",
	"github.com/drainmark/drainmark/LICENSE":                    "is our own",
	"github.com/drainmark/drainmark/clients/typescript/LICENSE": "is our own, for the package that npm makes",
}

// licenseFile matches the names of files that a license or a notice is in.
var licenseFile = regexp.MustCompile(`(?i)^(un)?(licen[cs]e|copying|copyright|notice)([-._][^/]*)?$`)

func main() {
	root := "."
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	text, err := notices(context.Background(), root)
	if err == nil {
		err = os.WriteFile(filepath.Join(root, made), text, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "notices:", err)
		os.Exit(1)
	}
}

// component is a module, or a package of ours that has somebody else's work in it.
type component struct {
	name    string // a module's path
	version string // "" if it has none
	files   []file
}

// file is a license or a notice.
type file struct {
	name string // within the component
	text string
}

// title is what the component is called in the file.
func (c *component) title() string { return strings.TrimSpace(c.name + " " + c.version) }

// notices returns what the file has to say of the program in a folder. It fails if a component has no license that is
// known and allowed.
func notices(ctx context.Context, root string) ([]byte, error) {
	packages, err := linked(ctx, root)
	if err != nil {
		return nil, err
	}
	components, err := componentsOf(packages)
	if err != nil {
		return nil, err
	}
	goroot, err := run(ctx, root, nil, "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	standard := component{name: "the Go standard library"}
	if err := standard.read(strings.TrimSpace(string(goroot)), ""); err != nil {
		return nil, err
	}
	return write(append([]*component{&standard}, components...))
}

// listed is a package as "go list" describes it.
type listed struct {
	ImportPath string
	Dir        string
	Standard   bool
	Module     *struct{ Path, Version, Dir string }
}

// linked returns the packages that are in the program on any platform of a release, and are not Go's own.
func linked(ctx context.Context, root string) ([]listed, error) {
	seen := map[string]bool{}
	var all []listed
	for _, platform := range platforms {
		system, machine, _ := strings.Cut(platform, "/")
		out, err := run(ctx, root, []string{"GOOS=" + system, "GOARCH=" + machine, "CGO_ENABLED=0"},
			"list", "-deps", "-json=ImportPath,Dir,Standard,Module", "./cmd/drainmark")
		if err != nil {
			return nil, err
		}
		for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
			var p listed
			if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, fmt.Errorf("reading what go list says: %w", err)
			}
			if !p.Standard && !seen[p.ImportPath] {
				seen[p.ImportPath] = true
				all = append(all, p)
			}
		}
	}
	return all, nil
}

// run returns what the go command says.
func run(ctx context.Context, root string, environment []string, arguments ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", arguments...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), environment...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", arguments[0], err, said.Bytes())
	}
	return out, nil
}

// componentsOf returns whose packages they are, in the order of names, with the licenses that lie beside the packages or
// above them in their module.
func componentsOf(packages []listed) ([]*component, error) {
	all := map[string]*component{}
	read := map[string]bool{}
	for _, p := range packages {
		if p.Module == nil {
			return nil, fmt.Errorf("the package %s is of no module", p.ImportPath)
		}
		c := &component{name: p.Module.Path, version: p.Module.Version}
		if p.Module.Path == ours {
			c.name = p.ImportPath
		}
		if all[c.name] == nil {
			all[c.name] = c
		}
		c = all[c.name]
		top := p.Module.Dir
		if p.Module.Path == ours {
			top = p.Dir
		}
		for dir := p.Dir; !read[dir]; dir = filepath.Dir(dir) {
			read[dir] = true
			within, err := filepath.Rel(top, dir)
			if err != nil {
				return nil, err
			}
			if err := c.read(dir, filepath.ToSlash(within)); err != nil {
				return nil, err
			}
			if dir == top {
				break
			}
		}
	}
	return sorted(all), nil
}

// sorted leaves out packages of ours that have nobody else's license.
func sorted(all map[string]*component) (list []*component) {
	for _, c := range all {
		slices.SortFunc(c.files, func(a, b file) int { return strings.Compare(a.name, b.name) })
		if len(c.files) > 0 || !strings.HasPrefix(c.name+"/", ours+"/") {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *component) int { return strings.Compare(a.name, b.name) })
	return list
}

// read adds the licenses and notices that lie in a folder of the component.
func (c *component) read(dir, within string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := strings.TrimPrefix(within+"/"+entry.Name(), "./")
		if name = strings.TrimPrefix(name, "/"); entry.IsDir() || !isLicense(entry.Name()) || passedOver[c.name+"/"+name] != "" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return err
		}
		c.files = append(c.files, file{name, tidy(string(text))})
	}
	return nil
}

func isLicense(name string) bool {
	return licenseFile.MatchString(name) && filepath.Ext(name) != ".go"
}

// tidy makes texts the same that differ only in the space around their lines' ends.
func tidy(text string) string {
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " \t")
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n") + "\n"
}
