package app

import "syscall"

// processAttributes lets the processes die with the test's.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
