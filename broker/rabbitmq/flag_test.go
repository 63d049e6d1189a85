package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/test/servers"
)

// flagCases have what the suite cannot know of the flag's journal.
var flagCases = []serverCase{
	{"the journal of the flag stays short, however often it is raised", journalStaysShort},
	{"a flag whose queue was emptied or deleted was never raised, and can be raised again", removedFlag},
	{"a lowering that is all that is left in the journal lowers nothing", loneLowering},
	{"a reader whose look another one has taken away looks again", lostLook},
	{"a raise that has been the newest for long is renewed, so that RabbitMQ can forget the looks behind it", renewedFlag},
	{"a flag that does not answer is given up in time, and disturbs no partition", stuckFlag},
}

func raise(t *testing.T, b *Broker, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if err := b.Flag().Raise(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
}

func reads(t *testing.T, b *Broker, want string) {
	t.Helper()
	if got, err := b.Flag().Read(t.Context()); err != nil || got != want {
		t.Fatalf("the flag is %q (%v), want %q", got, err, want)
	}
}

func journalStaysShort(t *testing.T, server *servers.RabbitMQ) {
	b := settings{}.open(t, server)
	for round := range 3 {
		for i := range 3 * prefetch {
			raise(t, b, fmt.Sprint(round, "-", i))
		}
		last := fmt.Sprint(round, "-", 3*prefetch-1)
		reads(t, b, last)
		if err := b.Flag().Lower(t.Context(), last); err != nil {
			t.Fatal(err)
		}
		reads(t, b, "")
		eventually(t, "the journal to be short", func() error {
			n, err := b.count(t.Context(), b.flag.lane.queue)
			if err == nil && n > 4 {
				err = fmt.Errorf("it has %d entries", n)
			}
			return err
		})
	}
}

func removedFlag(t *testing.T, server *servers.RabbitMQ) {
	b := settings{}.open(t, server)
	ch := channel(t, server)
	for name, remove := range map[string]func() error{
		"emptied": func() error { _, err := ch.QueuePurge(b.flag.lane.queue, false); return err },
		"deleted": func() error { _, err := ch.QueueDelete(b.flag.lane.queue, false, false, false); return err },
	} {
		raise(t, b, name)
		reads(t, b, name)
		eventually(t, "nobody to hold the journal", func() error {
			if n, err := b.count(t.Context(), b.flag.lane.queue); err != nil || n == 0 {
				return fmt.Errorf("%d entries are ready: %w", n, err)
			}
			return nil
		})
		if err := remove(); err != nil {
			t.Fatal(err)
		}
		if text, err := b.Flag().Read(t.Context()); !errors.Is(err, broker.ErrNeverRaised) {
			t.Errorf("%s, it is %q (%v)", name, text, err)
		}
		eventually(t, "raising again", func() error { return b.Flag().Raise(t.Context(), name+" again") })
		reads(t, b, name+" again")
	}
}

func loneLowering(t *testing.T, server *servers.RabbitMQ) {
	b := settings{}.open(t, server)
	raise(t, b, "a")
	if _, err := channel(t, server).QueuePurge(b.flag.lane.queue, false); err != nil {
		t.Fatal(err)
	}
	if err := b.Flag().Lower(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if text, err := b.Flag().Read(t.Context()); !errors.Is(err, broker.ErrNeverRaised) {
			t.Fatalf("it is %q (%v)", text, err)
		}
	}
}

func lostLook(t *testing.T, server *servers.RabbitMQ) {
	b := settings{}.open(t, server)
	raise(t, b, "a")
	other := consume(t, server, b.flag.lane.queue, prefetch)
	other.next(typeRaise)
	read := make(chan error, 1)
	go func() {
		text, err := b.Flag().Read(t.Context())
		if err == nil && text != "a" {
			err = fmt.Errorf("it read %q", text)
		}
		read <- err
	}()
	look := other.next(typeLook)
	if err := look.Ack(false); err != nil {
		t.Fatal(err)
	}
	if err := other.ch.Close(); err != nil { // and gives the raise back
		t.Fatal(err)
	}
	select {
	case err := <-read:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the reader never ends")
	}
}

func renewedFlag(t *testing.T, server *servers.RabbitMQ) {
	b := settings{}.open(t, server)
	raise(t, b, "a")
	reads(t, b, "a")
	b.flag.renewAfter = 0
	reads(t, b, "a") // and renews it
	b.flag.renewAfter = renewAfter
	renewed, err := b.Flag().Read(t.Context())
	if err != nil || renewed == "a" || renewed == "" {
		t.Fatalf("it is %q (%v)", renewed, err)
	}
	if err := b.Flag().Lower(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	reads(t, b, renewed)
	if err := b.Flag().Lower(t.Context(), renewed); err != nil {
		t.Fatal(err)
	}
	before := b.oldest(t, server)
	reads(t, b, "")
	if after := b.oldest(t, server); after != before {
		t.Error("it was renewed before its time")
	}
	b.flag.renewAfter = 0
	reads(t, b, "")
	b.flag.renewAfter = renewAfter
	if after := b.oldest(t, server); after == before {
		t.Error("the journal begins where it began before: RabbitMQ keeps all that stood behind that")
	}
	reads(t, b, "")
}

// oldest returns what the journal begins with.
func (b *Broker) oldest(t *testing.T, server *servers.RabbitMQ) string {
	t.Helper()
	r := consume(t, server, b.flag.lane.queue, prefetch)
	defer r.conn.Close()
	return r.next(typeRaise).MessageId
}

func stuckFlag(t *testing.T, server *servers.RabbitMQ) {
	b := settings{}.open(t, server)
	raise(t, b, "a")
	reads(t, b, "a")
	publish(t, b, 1, 1)
	before, err := b.publishing.get()
	if err != nil {
		t.Fatal(err)
	}
	resume := suspend(server, b.flag.lane.queue)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if text, err := b.Flag().Read(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it is %q (%v)", text, err)
	}
	publish(t, b, 2, 2)
	if after, err := b.publishing.get(); err != nil || after != before {
		t.Errorf("the connection to publish on was given up: %v", err)
	}
	resume()
	eventually(t, "reading again", func() error { _, err := b.Flag().Read(t.Context()); return err })
	reads(t, b, "a")
}

// acks takes all acknowledgements.
type acks struct{}

func (acks) Ack(uint64, bool) error        { return nil }
func (acks) Nack(uint64, bool, bool) error { return nil }
func (acks) Reject(uint64, bool) error     { return nil }

// TestRenewal has a journal renewed, while somebody else may publish between its entries.
func TestRenewal(t *testing.T) {
	entry := func(kind, text string) amqp.Publishing { return amqp.Publishing{Type: kind, Body: []byte(text)} }
	raised, lowered := entry(typeRaise, "a"), entry(typeLower, "a")
	for name, c := range map[string]struct {
		before []amqp.Publishing
		others []amqp.Publishing // before the new raise
		raised bool
	}{
		"down":                               {before: []amqp.Publishing{raised, lowered}},
		"up":                                 {before: []amqp.Publishing{raised}, raised: true},
		"down, and raised in between":        {[]amqp.Publishing{raised, lowered}, []amqp.Publishing{entry(typeRaise, "b")}, true},
		"down, and a late lowering":          {[]amqp.Publishing{raised, lowered}, []amqp.Publishing{lowered}, false},
		"up, and lowered in between":         {[]amqp.Publishing{raised}, []amqp.Publishing{lowered}, true},
		"down, and raised, lowered meantime": {[]amqp.Publishing{raised, lowered}, []amqp.Publishing{entry(typeRaise, "b"), entry(typeLower, "b")}, true},
	} {
		t.Run(name, func(t *testing.T) {
			queue := make(chan amqp.Delivery, 10)
			put := func(m amqp.Publishing) error {
				queue <- amqp.Delivery{Acknowledger: acks{}, Type: m.Type, Body: m.Body, MessageId: m.MessageId}
				return nil
			}
			var j journal
			for _, m := range c.before {
				d := amqp.Delivery{Acknowledger: acks{}, Type: m.Type, Body: m.Body}
				if err := j.read(&d); err != nil {
					t.Fatal(err)
				}
			}
			err := j.renew(func(m amqp.Publishing) error {
				for _, other := range c.others {
					_ = put(other)
				}
				c.others = nil
				return put(m)
			}, queue)
			if text := j.text(); err != nil || (text != "") != c.raised || string(j.raise.Body) == "a" {
				t.Errorf("the flag is %q by the raise %q (%v)", text, j.raise.Body, err)
			}
		})
	}
}
