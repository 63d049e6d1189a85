//go:build !linux

package servers

import "syscall"

func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func stopped(int) bool { return true }

// children knows none: their server ends them when it is ended in order.
func children(int) []int { return nil }

func awaitGone(int) {}
