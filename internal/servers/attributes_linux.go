package servers

import "syscall"

// processAttributes: a group of its own, and the death of the test's process is the death of the server's too. The
// latter holds for the thread that started it; Go ends such a thread only with the process, unless it is locked.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
