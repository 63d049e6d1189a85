//go:build !race

package jetstream

// raceEnabled says whether the race detector is there, which needs memory of its own.
const raceEnabled = false
