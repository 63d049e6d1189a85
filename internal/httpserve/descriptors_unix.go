//go:build unix

package httpserve

import "syscall"

// Descriptors returns how many file descriptors the process may have, 0 if there is no limit.
func Descriptors() uint64 {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil || limit.Cur == ^uint64(0) {
		return 0
	}
	return limit.Cur
}
