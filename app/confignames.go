package app

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// unknownName says what is wrong with a name in the mapping of a command, and what may have been meant.
func unknownName(node *kong.Node, name string) string {
	if has := whoHas(node, name); len(has) > 0 {
		where := "it is a setting of " + strings.Join(has, ", ")
		if node.Parent == nil {
			return fmt.Sprintf("%s can't stand here: %s, and belongs into a mapping of that name", name, where)
		}
		return fmt.Sprintf("%s has no setting %s: %s", nameOf(node), name, where)
	}
	known := slices.Collect(maps.Keys(settingsBelow(node)))
	for _, c := range node.Children {
		if len(commandsBelow(c)) > 0 {
			known = append(known, c.Name)
		}
	}
	if near := nearest(name, known); near != "" {
		return fmt.Sprintf("there is no setting %.80q: did you mean %s?", name, near)
	}
	return fmt.Sprintf("there is no setting %.80q", name)
}

// whoHas returns the commands that have a setting of a name.
func whoHas(node *kong.Node, name string) (commands []string) {
	root := node
	for root.Parent != nil {
		root = root.Parent
	}
	for _, of := range commandsBelow(root) {
		if slices.ContainsFunc(of.Flags, func(f *kong.Flag) bool { return f.Name == name }) {
			commands = append(commands, nameOf(of))
		}
	}
	return commands
}

// nearest returns the name that is most like another one, "" if none is like it.
func nearest(name string, known []string) (near string) {
	least := len(name)/3 + 2
	name = strings.ToLower(strings.ReplaceAll(name, "_", "-"))
	for _, other := range slices.Sorted(slices.Values(known)) {
		if d := distance(name, other); d < least {
			near, least = other, d
		}
	}
	return near
}

// distance is how many letters have to be put in, taken out or changed to make one text of another.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
