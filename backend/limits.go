package backend

import "time"

// Limits bound what a backend keeps and waits for. The zero value of a field means its default.
type Limits struct {
	BatchRecords int   // records in one broker message (default 1,000)
	WaitingBytes int64 // bytes of records that wait to be published, in all partitions (default 64 MiB)

	// PublishAttempt is how long one attempt to publish a batch may take, which is then in doubt (default 5 s). It must
	// be longer than the broker needs to find a new leader.
	PublishAttempt time.Duration
	// KeepAlive is how often a quiet producer sends a marker (default 24 h). It must be far less than ProducerRetention.
	KeepAlive time.Duration

	Waiters       int           // requests that wait for a receipt or a barrier (default 10,000)
	Subscribers   int           // event streams (default 10,000)
	SubscriberLag uint64        // messages that a live event stream may fall behind (default 100,000)
	FeedMessages  int           // newest messages of each followed log that are kept in memory (default 4,096)
	FeedBytes     int           // the same, in bytes (default 4 MiB)
	FeedsBytes    int           // what all followed logs together keep in memory (default 64 MiB)
	AnswerBytes   int64         // bytes of pages and lists that are being answered with, from 16 MiB (default 256 MiB)
	StreamBytes   int64         // bytes that all event streams hold to be sent, from 1 MiB (default 64 MiB)
	Poll          time.Duration // how often to look for changes, in case a notification was lost (default 1 s)
	StallAfter    time.Duration // something waits for so long, and nothing is persisted: a stall (default 5 s)

	// ProducerRetention is for how long receipts are good after their producer's last record (default 7 days). An older
	// receipt of a producer that the progress does not know is expired.
	ProducerRetention time.Duration
}

func (l Limits) withDefaults() Limits {
	set(&l.BatchRecords, 1000)
	set(&l.WaitingBytes, 64<<20)
	set(&l.PublishAttempt, 5*time.Second)
	set(&l.KeepAlive, 24*time.Hour)
	set(&l.Waiters, 10_000)
	set(&l.Subscribers, 10_000)
	set(&l.SubscriberLag, 100_000)
	set(&l.FeedMessages, 4096)
	set(&l.FeedBytes, 4<<20)
	set(&l.FeedsBytes, 64<<20)
	set(&l.AnswerBytes, 256<<20)
	set(&l.StreamBytes, 64<<20)
	set(&l.Poll, time.Second)
	set(&l.StallAfter, 5*time.Second)
	set(&l.ProducerRetention, 7*24*time.Hour)
	return l
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
