package servers

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
)

// processAttributes: a group of its own, and the death of the test's process is the death of the server's too. The
// latter holds for the thread that started it. Go ends such a thread only with the process, unless it is locked.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// stopped says whether all threads of a process have stopped. Each has a state of its own, behind its name in
// parentheses (proc_pid_stat(5)).
func stopped(pid int) bool {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return true // it has ended
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/stat", pid, thread.Name()))
		if _, rest, found := bytes.Cut(stat, []byte(") ")); err == nil && (!found || !bytes.ContainsAny(rest[:1], "TtZX")) {
			return false
		}
	}
	return true
}
