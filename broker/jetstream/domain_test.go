package jetstream

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/test/servers"
)

// A process is connected to a leaf node with a JetStream of its own, and its streams are in the hub's.
func TestTheStreamsAreInTheDomainOfTheURL(t *testing.T) {
	t.Parallel()
	port := servers.Port(t)
	hub := startNATS(t, natsSettings{More: fmt.Sprintf(
		"jetstream { domain: hub }\nleafnodes { listen: '127.0.0.1:%d' }", port)}, Options{})
	leaf := startNATS(t, natsSettings{More: fmt.Sprintf(
		"jetstream { domain: leaf }\nleafnodes { remotes: [{ url: 'nats-leaf://127.0.0.1:%d' }] }", port)}, Options{})
	config := Config{Options: Options{Partitions: 1, Timeout: answerTime, MaxBytes: 1 << 20}, URL: leaf.url + "?domain=hub"}
	var b *Broker
	eventually(t, func() string { // until the leaf is connected to the hub
		var err error
		if b, err = Open(bounded(t), config); err != nil {
			return err.Error()
		}
		if err = b.Ping(bounded(t)); err == nil {
			return ""
		}
		b.Close()
		return err.Error()
	})
	defer b.Close()
	lifecycle(t, b)
	for server, want := range map[*external]error{hub: nil, leaf: natsjs.ErrStreamNotFound} {
		if err := findStream(t, server.url); !errors.Is(err, want) {
			t.Errorf("looking for the stream in %s: %v, want %v", server.url, err, want)
		}
	}
	registry, err := OpenRegistry(bounded(t), config)
	if err != nil {
		t.Fatal(err)
	}
	defer registry.Close()
	if _, err := registry.Recorded(bounded(t)); !errors.Is(err, broker.ErrNotRecorded) {
		t.Errorf("reading the record of the deployment: %v", err)
	}
}

// An account imports JetStream's API from another one, under a prefix of its own, and the subjects of the streams.
func TestTheAPIOfAnotherAccountHasThePrefixOfTheURL(t *testing.T) {
	t.Parallel()
	e := startNATS(t, natsSettings{More: `accounts {
		owner { jetstream: enabled, users: [{ user: owner, password: secret }], exports: [
			{ service: "$JS.API.>", response_type: stream }, { service: "drainmark.>" } ] }
		guest { users: [{ user: guest, password: secret }], imports: [
			{ service: { account: owner, subject: "$JS.API.>" }, to: "from.owner.>" },
			{ service: { account: owner, subject: "drainmark.>" } } ] }
	}`}, Options{})
	as := func(user string) string { return strings.Replace(e.url, "nats://", "nats://"+user+":secret@", 1) }
	config := Config{Options: Options{Partitions: 1, Timeout: answerTime, MaxBytes: 1 << 20}, URL: as("guest") + "?api_prefix=from.owner"}
	b, err := Open(bounded(t), config)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	connected(t, b)
	lifecycle(t, b)
	if err := findStream(t, as("owner")); err != nil {
		t.Errorf("looking for the stream in the other account: %v", err)
	}
}

func TestADomainThatIsNotThereIsNamed(t *testing.T) {
	t.Parallel()
	e := startExternal(t, Options{})
	logger, logged := testLog()
	eventually(t, func() string { // once the server has answered within the time that Open has
		b, err := Open(bounded(t), Config{Options: Options{Partitions: 1, Timeout: answerTime, Logger: logger}, URL: e.url + "?domain=moon"})
		if err != nil {
			t.Fatal(err) // its servers may only be away
		}
		defer b.Close()
		if err := b.Ping(bounded(t)); err == nil {
			t.Fatal("Ping found a domain that is not there")
		}
		if !strings.Contains(logged(), "$JS.moon.API.>: check the domain") {
			return "the log does not name the domain:\n" + logged()
		}
		return ""
	})
}

// lifecycle publishes, receives, counts and purges.
func lifecycle(t *testing.T, b *Broker) {
	t.Helper()
	publish(t, b, 1, 1, 3, 10)
	r := open(t, b, "")
	at := expect(t, r, 1, 2, 3)[2]
	publish(t, b, 1, 4, 5, 10)
	expect(t, r, 4, 5)
	expect(t, open(t, b, at.Cursor), 4, 5)
	if got := pendingRecords(t, b, persisted(at.Cursor, map[byte]uint64{1: 3})); got != 2 {
		t.Errorf("%d records pending, want 2", got)
	}
	if alive, err := r.feed.alive(bounded(t)); !alive || err != nil {
		t.Errorf("the receiver's consumer is alive: %v, %v", alive, err)
	}
	if err := b.partitions[0].purgeThrough(bounded(t), b.partitions[0].config.Subjects[0], at.Tag); err != nil {
		t.Error(err)
	}
	keeps, err := b.Keeps(bounded(t), 0, []drainmark.ProducerID{producer(1)})
	if err != nil || len(keeps) == 0 {
		t.Errorf("what is kept: %v, %v", keeps, err)
	}
}

// findStream looks for the stream of partition 0 as a client of that server does that names no domain.
func findStream(t *testing.T, url string) error {
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	_, err = js.Stream(bounded(t), "drainmark-p0")
	return err
}
