//go:build !race

package e2e

// raceEnabled says whether the tests run with the race detector. The processes then do so too.
const raceEnabled = false
