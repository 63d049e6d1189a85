package jetstream

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/drainmark/drainmark/broker"
)

func TestAProducerThatTheStoreHasForgottenIsNotPending(t *testing.T) {
	t.Parallel()
	b := startEmbedded(t, EmbedConfig{}).connect(t)
	publish(t, b, 1, 1, 3, 10)
	publish(t, b, 2, 1, 2, 10)
	all := receive(t, open(t, b, ""), 5)
	for at, want := range map[int]uint64{0: 4, 2: 1, 4: 1} { // 1 is forgotten, and 2 known up to its first
		if got := pendingRecords(t, b, persisted(all[at].Cursor, map[byte]uint64{2: 1})); at > 0 && got != want || at == 0 && got != want {
			t.Errorf("%d records pending behind %v, want %d", got, all[at].Span(), want)
		}
	}
	if got := pendingRecords(t, b, persisted("1:5:1", nil)); got != 5 {
		t.Errorf("%d records pending behind another stream's cursor, want 5", got)
	}
}

func TestSomebodyElsesMessageOnTopOfAProducersHidesHowMuchThereIs(t *testing.T) {
	t.Parallel()
	e := startEmbedded(t, EmbedConfig{})
	b, other := e.connect(t), e.connect(t)
	publish(t, b, 1, 1, 3, 10)
	if got := pendingRecords(t, b, persisted("", nil)); got != 3 { // b has seen the producer's newest message
		t.Fatalf("%d records pending, want 3", got)
	}
	if _, err := b.conn.RequestMsg(&nats.Msg{Subject: "drainmark.p0." + producer(1).String(), Data: []byte("?")}, patience); err != nil {
		t.Fatal(err)
	}
	if got := pendingRecords(t, b, persisted("", nil)); got != 3 {
		t.Errorf("%d records pending, want 3", got)
	}
	if got, err := other.Backlog(bounded(t), 0, persisted("", nil)); err != nil || got.Pending != (broker.Count{}) {
		t.Errorf("who has not seen it says %+v, %v, want at least 0", got.Pending, err)
	}
	publish(t, b, 1, 4, 4, 10)
	if got := pendingRecords(t, other, persisted("", nil)); got != 4 {
		t.Errorf("%d records pending, want 4", got)
	}
}

func TestTheBacklogDoesNotWaitForAMessageThatWasDeleted(t *testing.T) {
	t.Parallel()
	b := startEmbedded(t, EmbedConfig{}).connect(t)
	publish(t, b, 1, 1, 1, 10)
	publish(t, b, 2, 1, 3, 10)
	stream, err := b.partitions[0].ready(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(bounded(t), 4); err != nil {
		t.Fatal(err)
	}
	if got := pendingRecords(t, b, persisted("", nil)); got != 3 {
		t.Errorf("%d records pending, want 3", got)
	}
	if err := stream.Purge(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if got := pendingRecords(t, b, persisted("", nil)); got != 0 {
		t.Errorf("%d records pending of an empty stream", got)
	}
}

func TestTheBacklogIsRightAgainAfterTheServerWasStartedAgain(t *testing.T) {
	t.Parallel()
	e := startEmbedded(t, EmbedConfig{})
	b := e.connect(t)
	publish(t, b, 1, 1, 3, 10)
	if got := pendingRecords(t, b, persisted("", nil)); got != 3 {
		t.Fatalf("%d records pending, want 3", got)
	}
	if err := errors.Join(e.process.stop(stopTimeout), e.process.start()); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if err := b.Publish(bounded(t), 0, single(1, 4, 10)); err != nil {
			return err.Error()
		}
		return ""
	})
	if got := pendingRecords(t, b, persisted("", nil)); got != 4 {
		t.Errorf("%d records pending, want 4", got)
	}
}
