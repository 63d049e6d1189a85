package peers

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill"
	watermillsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
)

// Watermill's SQL subscriber selects a batch of messages, sends them one after the other, the next one when the last one
// is acknowledged, and writes the batch's last offset, all in one transaction. That is in the context of each message
// (TxFromContext), and what a handler writes through it is exactly once: the offset is in the same transaction. The
// offsets adapter is the default one, which its documentation names for exactly-once. It locks the group's offset, so
// more subscribers of one topic wait for each other, and what is parallel is several topics. Larger batches cost less,
// because each SELECT sorts all that waits. These are the best of 1 to 16 topics and batches of 100 to 20,000.
//
// A handler sees one message, and does not know which is the batch's last. So it cannot insert several at once.
var watermills = []contender{
	ofWatermill(1, 100), // the default
	ofWatermill(1, 2000),
	ofWatermill(4, 2000),
	ofWatermill(8, 2000),
}

func ofWatermill(topics, batch int) contender {
	return contender{name: fmt.Sprintf("Watermill, batches of %d, topics: %d", batch, topics), open: func(t testing.TB, url string) queue {
		// A topic's subscriber holds one connection.
		q := &watermillQueue{db: watermillsql.BeginnerFromPgx(connect(t, url, topics+1)), schema: watermillsql.DefaultPostgreSQLSchema{
			SubscribeBatchSize: batch, GeneratePayloadType: func(string) string { return "BYTEA" },
		}}
		for i := range topics {
			q.topics = append(q.topics, fmt.Sprint("bench", i))
		}
		return q
	}}
}

type watermillQueue struct {
	db     watermillsql.Beginner
	schema watermillsql.DefaultPostgreSQLSchema
	topics []string
}

func (q *watermillQueue) subscriber(t testing.TB) *watermillsql.Subscriber {
	t.Helper()
	s, err := watermillsql.NewSubscriber(q.db, watermillsql.SubscriberConfig{
		SchemaAdapter: q.schema, OffsetsAdapter: watermillsql.DefaultPostgreSQLOffsetsAdapter{},
	}, watermill.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (q *watermillQueue) fill(t testing.TB, bodies []string) {
	t.Helper()
	publisher, err := watermillsql.NewPublisher(q.db, watermillsql.PublisherConfig{SchemaAdapter: q.schema}, watermill.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	subscriber := q.subscriber(t)
	for i, topic := range q.topics {
		if err := subscriber.SubscribeInitialize(topic); err != nil {
			t.Fatal(err)
		}
		var messages []*message.Message
		for n := i; n < len(bodies); n += len(q.topics) {
			messages = append(messages, message.NewMessage(watermill.NewUUID(), []byte(bodies[n])))
		}
		for some := range slices.Chunk(messages, 500) {
			if err := publisher.Publish(topic, some...); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// drain has a subscriber for each topic, and calls no router: that is the shortest way.
func (q *watermillQueue) drain(t testing.TB) (stop func()) {
	t.Helper()
	var applying sync.WaitGroup
	var subscribers []*watermillsql.Subscriber
	for _, topic := range q.topics {
		subscriber := q.subscriber(t)
		subscribers = append(subscribers, subscriber)
		messages, err := subscriber.Subscribe(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		applying.Go(func() { applyMessages(t, messages) })
	}
	return func() {
		for _, s := range subscribers {
			_ = s.Close()
		}
		applying.Wait()
	}
}

func applyMessages(t testing.TB, messages <-chan *message.Message) {
	for m := range messages {
		tx, ok := watermillsql.TxFromContext(m.Context())
		if !ok {
			t.Errorf("a message has no transaction")
			return
		}
		if _, err := tx.ExecContext(m.Context(), insert, m.UUID, string(m.Payload)); err != nil {
			t.Errorf("inserting: %v", err)
			m.Nack()
			return
		}
		m.Ack()
	}
}
