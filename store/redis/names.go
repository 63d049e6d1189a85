package redis

import (
	"strconv"

	"github.com/drainmark/drainmark"
)

// defaultPrefix begins the names of all keys unless another is set.
const defaultPrefix = "drainmark"

// names makes the names of keys. All of one partition have one hash tag. So have those of no partition.
type names struct {
	prefix     string
	deployment string
	owners     string
	channel    string // of the announcements (channels are the same in all databases of a server)
	partitions [drainmark.MaxPartitions]partitionNames
}

// partitionNames are the names of one partition's keys. doc.go says what is behind them.
type partitionNames struct {
	state, producers, producerAges           string
	logs, logNames, cleared, written, stream string // stream is what the names of the streams begin with
	aside                                    string // and what those of messages that are in no stream begin with
	keys, keyAges                            string
	letters, openLetters, discardedLetters   string
	letterHeads, letterRecords, marks, spans string
	letterPrincipals                         string
}

func newNames(prefix string) *names {
	if prefix == "" {
		prefix = defaultPrefix
	}
	n := &names{
		prefix: prefix, deployment: prefix + ":{all}:deployment", owners: prefix + ":{all}:owners", channel: prefix + ":changes",
	}
	for i := range n.partitions {
		p := prefix + ":{p" + strconv.Itoa(i) + "}:"
		n.partitions[i] = partitionNames{
			state: p + "state", producers: p + "producers", producerAges: p + "producers:ages",
			logs: p + "logs", logNames: p + "logs:names", cleared: p + "logs:cleared", written: p + "logs:written", stream: p + "log:", aside: p + "aside:",
			keys: p + "keys", keyAges: p + "keys:ages",
			letters: p + "letters", openLetters: p + "letters:open", discardedLetters: p + "letters:discarded",
			letterHeads: p + "letters:heads", letterRecords: p + "letters:records", marks: p + "letters:marks", spans: p + "letters:spans",
			letterPrincipals: p + "letters:principals",
		}
	}
	return n
}

// of returns the names of a partition's keys, nil if no deployment can have that partition.
func (n *names) of(partition int) *partitionNames {
	if partition < 0 || partition >= len(n.partitions) {
		return nil
	}
	return &n.partitions[partition]
}
