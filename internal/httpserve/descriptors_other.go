//go:build !unix

package httpserve

// Descriptors returns how many file descriptors the process may have, 0 if there is no limit.
func Descriptors() uint64 { return 0 }
