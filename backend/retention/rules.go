// Package retention keeps logs from growing without an end: a Janitor looks at them regularly and has each trimmed to what
// a file of rules says that it keeps. It reads as any reader does, and sends trims as any client does. So it may run in
// every backend of a deployment: a trim that came twice removes nothing more.
package retention

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/drainmark/drainmark/auth"
	"github.com/drainmark/drainmark/internal/bytesize"
	"github.com/drainmark/drainmark/internal/strictyaml"
)

// Rule is how much logs keep. What is 0 is no limit. A log is trimmed to the smallest of them.
type Rule struct {
	Logs  string        // a log's name, or the beginning of names and *, or * for all
	Age   time.Duration // messages that were persisted longer ago go
	Count uint64        // so many messages stay
	Bytes uint64        // about so many bytes of bodies and headers stay, and no less
}

// Rules are those of a file. The first one counts that means a log.
type Rules []Rule

// of returns the rule of a log, the zero one if there is none.
func (r Rules) of(log string) Rule {
	if i := slices.IndexFunc(r, func(one Rule) bool { return auth.Covers(one.Logs, log) }); i >= 0 {
		return r[i]
	}
	return Rule{}
}

// maxFile is how large a file of rules can be, in bytes, and minAge the shortest age: looks are a minute apart.
const (
	maxFile = 1 << 20
	minAge  = time.Minute
)

// fileText is a file of rules as YAML has it.
//
//	retention:
//	  - logs: orders.*
//	    age: 720h
//	    count: 1000000
//	    bytes: 10GiB
type fileText struct {
	Retention []ruleText `yaml:"retention"`
}

type ruleText struct {
	Logs  string  `yaml:"logs"`
	Age   *string `yaml:"age"`
	Count *string `yaml:"count"`
	Bytes *string `yaml:"bytes"`
	line  int
}

// UnmarshalYAML notes the line.
func (r *ruleText) UnmarshalYAML(node *yaml.Node) error {
	type plain ruleText
	known := []string{"logs", "age", "count", "bytes"}
	for i := 0; node.Kind == yaml.MappingNode && i < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		switch {
		case !slices.Contains(known, key.Value):
			return fmt.Errorf("line %d: a rule has no %s: it has %s", key.Line, key.Value, strings.Join(known, ", "))
		case value.ShortTag() == "!!null":
			return fmt.Errorf("line %d: %s has no value: for no limit, leave it out", key.Line, key.Value)
		}
	}
	r.line = node.Line
	return node.Decode((*plain)(r))
}

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("it has more than %d bytes", maxFile)
	}
	return text, err
}

// parse reads the text of a file of rules.
func parse(text []byte) (Rules, error) {
	var in fileText
	if err := strictyaml.Decode(text, &in); err != nil {
		return nil, err
	}
	if len(in.Retention) == 0 {
		return nil, errors.New("it has no rules: it must have a list, retention")
	}
	var rules Rules
	for i := range in.Retention {
		rule, err := in.Retention[i].rule()
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", in.Retention[i].line, err)
		}
		if j := slices.IndexFunc(rules, func(one Rule) bool { return auth.Covers(one.Logs, rule.Logs) }); j >= 0 {
			return nil, fmt.Errorf("line %d: the rule for %s never counts: %s stands before it, and the first one counts",
				in.Retention[i].line, rule.Logs, rules[j].Logs)
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

func (r *ruleText) rule() (rule Rule, err error) {
	if rule.Logs = r.Logs; r.Logs == "" || !auth.IsPattern(r.Logs) {
		return rule, fmt.Errorf("logs is %.80q: it must be a log's name, the beginning of names with . - or _ and *, or *", r.Logs)
	}
	if r.Age != nil {
		if rule.Age, err = time.ParseDuration(*r.Age); err != nil || rule.Age < minAge {
			return rule, fmt.Errorf("age is %.40q: it must be a time such as 720h, %s or more", *r.Age, minAge)
		}
	}
	if rule.Count, err = amount("count", r.Count); err == nil {
		rule.Bytes, err = amount("bytes", r.Bytes)
	}
	return rule, err
}

// amount reads a number of messages, or of bytes, nil for none.
func amount(name string, text *string) (uint64, error) {
	if text == nil {
		return 0, nil
	}
	n, err := bytesize.Parse(*text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%s is %.40q: it must be a number above 0", name, *text)
	}
	return uint64(n), nil
}
