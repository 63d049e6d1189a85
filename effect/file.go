package effect

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/drainmark/drainmark/internal/smallfile"
	"github.com/drainmark/drainmark/internal/sqltext"
	"github.com/drainmark/drainmark/internal/strictyaml"
	"github.com/drainmark/drainmark/store"
)

// File is a file of effects.
type File struct {
	// Setup is SQL that makes what the effects need, "" for nothing. A consumer runs it each time that it begins, in one
	// transaction, before it checks the effects. So it has to find what it has made, as CREATE TABLE IF NOT EXISTS does.
	Setup   string
	Effects []Statement
}

// Statement is an effect that is one SQL statement. It is run once for the records of a log in a commit, which are the
// relation records: log, id, position, body, json, content_type, headers, key, principal and accepted_at.
type Statement struct {
	Options
	Logs string
	SQL  string
	At   string // the file and line where it stands
}

// maxFile is how large a file of effects can be, in bytes.
const maxFile = 1 << 20

// Load reads a file of effects in YAML. The error is store.ErrMisconfigured and says where it is wrong.
//
//	setup: CREATE TABLE IF NOT EXISTS orders (…)
//	effects:
//	  - logs: orders        # a log's name, or the beginning of names and .*
//	    sql: INSERT INTO orders (id, sku) SELECT id, json->>'sku' FROM records
//	    name: orders        # in metrics and reasons; that of its logs if not set
//	    keep: true          # whether the messages are kept in the log as well
//	    rejects: [sold_out] # constraints: a record that violates one is rejected without further attempts
//	    attempts: 5         # of a record that it fails for otherwise
//	    timeout: 5s         # of one call
func Load(path string) (File, error) {
	text, err := smallfile.Read(path, maxFile)
	if err != nil {
		return File{}, store.Misconfigured("reading the effects: %w", err)
	}
	f, err := parse(path, text)
	if err != nil {
		return File{}, store.Misconfigured("reading the effects: %s: %w", path, err)
	}
	return f, nil
}

// fileText is a file as YAML has it.
type fileText struct {
	Setup   string          `yaml:"setup"`
	Effects []statementText `yaml:"effects"`
}

type statementText struct {
	Logs     string        `yaml:"logs"`
	Name     string        `yaml:"name"`
	SQL      string        `yaml:"sql"`
	Keep     *bool         `yaml:"keep"`
	Rejects  []string      `yaml:"rejects"`
	Attempts int           `yaml:"attempts"`
	Timeout  time.Duration `yaml:"timeout"`
	line     int
}

// UnmarshalYAML notes the line.
func (s *statementText) UnmarshalYAML(node *yaml.Node) error {
	type plain statementText
	known := []string{"logs", "name", "sql", "keep", "rejects", "attempts", "timeout"}
	for i := 0; node.Kind == yaml.MappingNode && i < len(node.Content); i += 2 {
		if key := node.Content[i]; !slices.Contains(known, key.Value) {
			return fmt.Errorf("line %d: an effect has no %s: it has %s", key.Line, key.Value, strings.Join(known, ", "))
		}
	}
	s.line = node.Line
	return node.Decode((*plain)(s))
}

func parse(path string, text []byte) (f File, err error) {
	var in fileText
	if err := strictyaml.Decode(text, &in); err != nil {
		return f, err
	}
	if len(in.Effects) == 0 {
		return f, errors.New("it has no effects")
	}
	f.Setup = in.Setup
	for _, s := range in.Effects {
		statement := Statement{
			Options: Options{Name: s.Name, Unkept: s.Keep != nil && !*s.Keep, Rejects: s.Rejects, Attempts: s.Attempts, Timeout: s.Timeout},
			Logs:    s.Logs, At: fmt.Sprintf("%s:%d", path, s.line),
		}
		if statement.SQL, err = one(s.SQL); err != nil {
			return f, fmt.Errorf("line %d: the effect of %s: %w", s.line, s.Logs, err)
		}
		f.Effects = append(f.Effects, statement)
	}
	return f, nil
}

// one returns the statement that an effect is.
func one(sql string) (string, error) {
	statements := sqltext.Split(sql)
	if len(statements) != 1 {
		return "", fmt.Errorf("its sql has %d statements, and must be one", len(statements))
	}
	switch word, _ := sqltext.First(statements[0]); word {
	case "INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "SELECT", "REPLACE":
		return statements[0], nil
	default:
		return "", fmt.Errorf("its sql begins with %q, and must be INSERT, UPDATE, DELETE, MERGE, REPLACE, or a WITH or SELECT that does one", word)
	}
}
