package drainmark

import (
	"hash/fnv"
	"strings"
)

// MaxLogName is the longest name of a log, in bytes.
const MaxLogName = 128

// IsTestLog says whether a log is one of "drainmark verify", going by its name. That makes dead letters on purpose, which
// nobody is to be woken for.
func IsTestLog(name string) bool {
	return strings.HasPrefix(name, "drainmark-verify") || strings.HasPrefix(name, "drainmark-canary")
}

// CheckLogName says why a name cannot be a log's: it must match [a-z0-9][a-z0-9._-]{0,127}.
func CheckLogName(name string) error {
	if name == "" || len(name) > MaxLogName {
		return Errorf(KindInvalid, "log name of %d characters: it must have 1 to %d", len(name), MaxLogName)
	}
	for i := range len(name) {
		c := name[i]
		letter := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '.' && c != '_' && c != '-') {
			return Errorf(KindInvalid, "log name %q: character %q at %d is not allowed; it must match [a-z0-9][a-z0-9._-]{0,127}", name, c, i+1)
		}
	}
	return nil
}

// PartitionOf returns the partition that a log belongs to, of n. It never changes for a deployment: the hash is
// FNV-1a (64 bit) with its upper half folded into the lower, fixed for ever, and the number of partitions is fixed
// when the deployment is created. Without the fold the low bits depend on the characters' low bits alone, and names
// that say the same thing twice ("user-7-7") would fill half of the partitions.
func PartitionOf(log string, n int) int {
	h := fnv.New64a()
	h.Write([]byte(log))
	sum := h.Sum64()
	return int((sum ^ sum>>32) % uint64(n))
}

// MaxPartitions is the most partitions that a deployment can have, so that a receipt can name all of them.
const MaxPartitions = MaxReceiptSpans

// Deployment is what is fixed when a deployment's store is created, and checked at every start.
type Deployment struct {
	ID         DeploymentID
	Partitions int
}
