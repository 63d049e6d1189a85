//go:build !race

package resident

// Factor is how much more memory programs take that are built as the test is: the race detector remembers much.
const Factor = 1
