// Package configfile reads a configuration file in YAML: strictly, with the environment in it, and with the place of
// everything, so that an error can name line and column. What the names mean is for others to say.
package configfile

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/drainmark/drainmark/internal/smallfile"
)

// Limit is how large a file can be, in bytes, also with its variables and anchors put in.
const Limit = 1 << 20

// Place is where something stands in a file. Both count from 1. A zero Place is the file as a whole.
type Place struct{ Line, Column int }

// Kind is what a node is.
type Kind int

// The kinds of nodes.
const (
	Empty Kind = iota // nothing stands there, or null
	Text
	Bool
	Integer
	Number // that is no integer
	List
	Mapping
)

func (k Kind) String() string {
	return [...]string{"nothing", "a text", "true or false", "a whole number", "a number", "a list", "a mapping"}[k]
}

// Node is a value of the file.
type Node struct {
	Place
	Kind    Kind
	Text    string   // of a scalar, as it is written, with variables put in
	Open    bool     // a scalar with variables, which may be any kind of scalar
	Shown   string   // Text with nothing in place of the variables: what whoever reads the file sees of it
	Items   []*Node  // of a list
	Members []Member // of a mapping, as they stand in the file
}

// Member is a name in a mapping, and its value.
type Member struct {
	Place
	Name  string
	Value *Node
}

// Problem is something that is wrong in a file.
type Problem struct {
	Path string
	Place
	Message string
}

// Error returns what compilers print, which editors understand: the file, line and column, and what is wrong.
func (p Problem) Error() string {
	if p.Line == 0 {
		return p.Path + ": " + p.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.Path, p.Line, p.Column, p.Message)
}

// Problems are all that is wrong in a file, in its order.
type Problems []Problem

// Error returns a line for each.
func (all Problems) Error() string {
	lines := make([]string, len(all))
	for i, p := range all {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Sort puts problems in the order of the file, each once.
func (all Problems) Sort() Problems {
	slices.SortStableFunc(all, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.Compact(all)
}

// Read reads a file. lookup returns the value of an environment variable, and whether it is set. The root is a mapping, and
// has what could be read of it if there are problems.
func Read(path string, lookup func(name string) (value string, set bool)) (root *Node, problems Problems) {
	text, err := smallfile.Read(path, Limit)
	if err != nil {
		return &Node{Kind: Mapping}, Problems{{Path: path, Message: withoutPath(err)}}
	}
	r := reader{path: path, lookup: lookup, open: map[*yaml.Node]bool{}}
	root = r.document(text)
	return root, r.problems.Sort()
}

// withoutPath returns the text of an error of the file system, whose path is said already.
func withoutPath(err error) string {
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return err.Error()
}

// reader reads one file.
type reader struct {
	path     string
	lookup   func(string) (string, bool)
	open     map[*yaml.Node]bool // lists and mappings that are being read
	taken    int                 // bytes of what has been read, with variables and anchors put in
	problems Problems
}

func (r *reader) problem(at Place, format string, args ...any) {
	r.problems = append(r.problems, Problem{r.path, at, fmt.Sprintf(format, args...)})
}

// document reads the text of the file.
func (r *reader) document(text []byte) *Node {
	empty := &Node{Kind: Mapping}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var first, second yaml.Node
	switch err := decoder.Decode(&first); {
	case errors.Is(err, io.EOF): // it has comments at most
		return empty
	case err != nil:
		r.malformed(err)
		return empty
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		r.problem(placeOf(&second), "a second document begins: there must be one")
	case !errors.Is(err, io.EOF):
		r.malformed(err)
	}
	root := r.node(first.Content[0])
	switch root.Kind {
	case Mapping:
		return root
	case Empty:
	default:
		r.problem(root.Place, "it must be a mapping of names to values, and is %s", root.Kind)
	}
	return empty
}

// malformed notes an error of the YAML library.
func (r *reader) malformed(err error) {
	var at *yaml.LoadError
	if errors.As(err, &at) {
		r.problem(Place{at.Mark.Line, at.Mark.Column}, "not YAML: %s", at.Message)
		return
	}
	r.problem(Place{}, "not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
}

func placeOf(n *yaml.Node) Place { return Place{n.Line, n.Column} }

// node reads a value. An anchor's value stands where it is used.
func (r *reader) node(from *yaml.Node) *Node {
	n := &Node{Place: placeOf(from)}
	if from.Kind == yaml.AliasNode {
		from = from.Alias
	}
	if r.taken > Limit {
		return n // which has been said
	}
	if r.open[from] {
		r.problem(n.Place, "*%s stands in what it stands for", from.Anchor)
		return n
	}
	r.open[from] = true
	defer delete(r.open, from)
	switch from.Kind {
	case yaml.SequenceNode:
		n.Kind = List
		for _, item := range from.Content {
			n.Items = append(n.Items, r.node(item))
		}
	case yaml.MappingNode:
		n.Kind = Mapping
		r.members(n, from.Content)
	default:
		r.scalar(n, from)
	}
	r.count(n)
	return n
}

// count bounds what variables and anchors make of a file.
func (r *reader) count(n *Node) {
	before := r.taken
	r.taken += 1 + len(n.Text)
	if before <= Limit && r.taken > Limit {
		r.problem(n.Place, "with its variables and anchors put in, it has more than %d bytes", Limit)
	}
}

// members reads the names and values of a mapping, which alternate in content.
func (r *reader) members(n *Node, content []*yaml.Node) {
	seen := map[string]Place{}
	for i := 0; i+1 < len(content); i += 2 {
		key := content[i]
		at := placeOf(key)
		switch {
		case key.ShortTag() == "!!merge":
			r.problem(at, "<< is not understood: what is common stands at the top")
			continue
		case key.Kind != yaml.ScalarNode:
			r.problem(at, "a name must be a text")
			continue
		}
		if before, twice := seen[key.Value]; twice {
			r.problem(at, "%q is there already, in line %d", key.Value, before.Line)
			continue
		}
		seen[key.Value] = at
		n.Members = append(n.Members, Member{at, key.Value, r.node(content[i+1])})
	}
}

// scalarKinds are the kinds of YAML's tags. A date is a text here.
var scalarKinds = map[string]Kind{
	"!!null": Empty, "!!str": Text, "!!timestamp": Text, "!!merge": Text, "!!bool": Bool, "!!int": Integer, "!!float": Number,
}

// scalar reads a value that is neither a list nor a mapping.
func (r *reader) scalar(n *Node, from *yaml.Node) {
	kind, known := scalarKinds[from.ShortTag()]
	if !known {
		r.problem(n.Place, "the tag %s is not understood", from.Tag)
	}
	n.Kind, n.Text, n.Shown = kind, from.Value, from.Value
	if kind != Text {
		return
	}
	var wrong []string
	n.Text, n.Open, wrong = expand(from.Value, r.lookup)
	for _, message := range wrong {
		r.problem(n.Place, "%s", message)
	}
	n.Shown, _, _ = expand(from.Value, func(string) (string, bool) { return "", false })
}
