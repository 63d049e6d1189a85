package amqp10

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	amqp "github.com/Azure/go-amqp"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/test/servers"
)

// TestOutcomes: of all outcomes only one is a success, and none says more than the server did.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	rejected := func(condition amqp.ErrCond, text string) amqp.DeliveryState {
		return &amqp.StateRejected{Error: &amqp.Error{Condition: condition, Description: text}}
	}
	for name, test := range map[string]struct {
		by    product
		state amqp.DeliveryState
		is    error  // nil: none that is told apart
		says  string // "" for a success
	}{
		"accepted":                          {artemis, &amqp.StateAccepted{}, nil, ""},
		"released":                          {rabbitMQ3, &amqp.StateReleased{}, nil, "rabbitmqadmin declare queue name=q "},
		"modified":                          {artemis, &amqp.StateModified{}, nil, "stored or not"},
		"received":                          {artemis, &amqp.StateReceived{}, nil, "stored or not"},
		"none":                              {artemis, nil, nil, "stored or not"},
		"rejected because of a limit":       {ibmMQ, rejected(amqp.ErrCondResourceLimitExceeded, "2053"), broker.ErrFull, "2053"},
		"rejected by a full ActiveMQ":       {activeMQ, rejected("failed", "Persistent store is Full, 100% of 1"), broker.ErrFull, "100% of 1"},
		"rejected by ActiveMQ, otherwise":   {activeMQ, rejected("failed", "disk on fire"), nil, "disk on fire"},
		"rejected by RabbitMQ":              {rabbitMQ4, &amqp.StateRejected{}, broker.ErrFull, "at its limit"},
		"rejected without a reason":         {artemis, &amqp.StateRejected{}, nil, "without a reason"},
		"rejected because of missing right": {artemis, rejected(amqp.ErrCondUnauthorizedAccess, "no"), broker.ErrMisconfigured, "queue q"},
	} {
		l := &lane{queue: queue{"q", 1}, session: &session{product: test.by}}
		err := l.outcome(test.state)
		if test.says == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %q", name, err, test.says)
		}
		for _, told := range []error{broker.ErrFull, broker.ErrNotSent, broker.ErrMisconfigured} {
			if errors.Is(err, told) != (told == test.is) {
				t.Errorf("%s: %v: is it %v?", name, err, told)
			}
		}
	}
}

func TestProducts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		product, version string
		address          string
		grouped          bool
	}{
		{"RabbitMQ", "3.10.8", "/amq/queue/q", false},
		{"RabbitMQ", "4.0.5", "/queues/q", false},
		{"ActiveMQ", "6.3.1", "queue://q", true},
		{"apache-activemq-artemis", "2.50.0", "q", true},
		{"", "", "q", false},
	} {
		p := productOf(map[string]any{"product": test.product, "version": test.version})
		if p.address("q") != test.address || p.grouped != test.grouped || !strings.Contains(p.howTo(queue{"q", 1}), "q") {
			t.Errorf("%s %s: %+v", test.product, test.version, p)
		}
	}
}

// endInTime: a publish ends when its context does, wherever it is by then.
func endInTime(t *testing.T, p peer) {
	c, err := p.as(servers.BackendUser, p.config(t, 0)).resolved()
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(c)
	l := newLane(s, s.partition(0))
	for i := range 1500 {
		if err := l.publish(t.Context(), durable("x", []byte("x"), nil)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = l.publish(ctx, durable("x", []byte("x"), nil))
		}()
		for begun := time.Now(); time.Since(begun) < time.Duration(i%200)*time.Microsecond; { // another moment of it each time
			runtime.Gosched()
		}
		cancel()
		select {
		case <-ended:
		case <-time.After(time.Minute):
			t.Fatalf("publish %d has not ended a minute after its context", i)
		}
	}
	l.close()
}
