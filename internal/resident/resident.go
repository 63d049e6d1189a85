// Package resident tells tests how much memory a process takes.
package resident

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Most returns the most memory, in bytes, that a process has had in RAM at once so far. It knows only Linux.
func Most(pid int) (int64, error) {
	const line = "VmHWM:"
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("reading the memory of process %d: %w", pid, err)
	}
	_, rest, _ := strings.Cut(string(status), line)
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, fmt.Errorf("reading the memory of process %d: there is no %s", pid, line)
	}
	kilobytes, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading the memory of process %d: %w", pid, err)
	}
	return kilobytes << 10, nil
}
