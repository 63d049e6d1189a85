package servers

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
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

// children returns the processes that a process has started, and that run.
func children(pid int) (found []int) {
	threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, thread := range threads {
		list, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, thread.Name()))
		for _, field := range bytes.Fields(list) {
			if child, err := strconv.Atoi(string(field)); err == nil {
				found = append(found, child)
			}
		}
	}
	return found
}

// awaitGone waits until a process that was killed holds nothing any more: it may stay as a zombie.
func awaitGone(pid int) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if _, state, found := bytes.Cut(stat, []byte(") ")); err != nil || !found || bytes.ContainsAny(state[:1], "ZX") {
			return
		}
	}
}
