//go:build !unix

package fault

import "os/exec"

// ownGroup does nothing where there are no process groups: a command is killed alone.
func ownGroup(*exec.Cmd) {}

// reap does nothing where nobody is left children.
func reap() {}
