package backend

import (
	"fmt"
	"time"

	"github.com/drainmark/drainmark"
)

// stops says why a partition does not go on until somebody repairs something, or an effect says so, "" if it does. Its
// progress may move meanwhile: each attempt is written down there.
func (b *Backend) stops(partition int) (reason string, cause Cause) {
	t := b.tracker.partitions[partition].snapshot().Trouble
	switch {
	case t == nil:
		return "", Cause{}
	case t.Stopped:
		return fmt.Sprintf("partition %d: the effect %s has failed for so many records that no more are set aside, since %s",
			partition, t.Effect, since(t)), causeOf(t)
	case t.Span.First == 0:
		return fmt.Sprintf("partition %d: the effect %s does not let it go on, since %s", partition, t.Effect, since(t)), causeOf(t)
	}
	return "", Cause{}
}

// retried says that a record is being tried again and again, "" if none is. The cause is only there for a receipt of that
// very record. Others wait behind it.
func (b *Backend) retried(waiting drainmark.Span) (reason string, cause Cause) {
	t := b.tracker.partitions[waiting.Partition].snapshot().Trouble
	if t == nil || t.Stopped || t.Span.First == 0 {
		return "", Cause{}
	}
	if t.Span.Producer != waiting.Producer || t.Span.First > waiting.Last || t.Span.Last < waiting.First {
		return fmt.Sprintf("partition %d: the effect %s fails for a record that is before it, which is tried again (attempts: %d, since %s)",
			waiting.Partition, t.Effect, t.Attempts, since(t)), Cause{}
	}
	return fmt.Sprintf("the effect %s fails and is tried again (attempts: %d, since %s)", t.Effect, t.Attempts, since(t)), causeOf(t)
}

func causeOf(t *drainmark.Trouble) Cause { return Cause{t.Reason, t.Log} }

func since(t *drainmark.Trouble) string { return t.Since.UTC().Format(time.RFC3339) }
