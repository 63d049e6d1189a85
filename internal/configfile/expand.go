package configfile

import (
	"fmt"
	"regexp"
)

// variable is ${NAME} or ${NAME:-default}, or what only looks like one. $${ stands for ${.
var variable = regexp.MustCompile(`\$?\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\})?`)

// expand puts variables into a text. It says whether there were any, and which are missing or malformed: nothing stands
// in their place. A variable that is empty is not set, as with those that are settings.
func expand(text string, lookup func(string) (string, bool)) (expanded string, some bool, wrong []string) {
	expanded = variable.ReplaceAllStringFunc(text, func(found string) string {
		if len(found) > 1 && found[1] == '$' {
			return found[1:]
		}
		part := variable.FindStringSubmatch(found)
		name, otherwise := part[1], part[2] != ""
		some = true
		if name == "" {
			wrong = append(wrong, "after ${ there must be a name and }, or a name, :-, a default and }. For a text that has it, write $${")
			return ""
		}
		value, set := lookup(name)
		switch {
		case set && value != "":
			return value
		case otherwise:
			return part[3]
		}
		wrong = append(wrong, fmt.Sprintf("the environment variable %s is not set", name))
		return ""
	})
	return expanded, some, wrong
}
