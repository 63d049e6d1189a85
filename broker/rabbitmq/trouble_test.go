package rabbitmq

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/test/servers"
)

// troubleCases have what the adapter must get out of by itself, or say plainly.
var troubleCases = []serverCase{
	{"a connection over which nothing is confirmed is cut, and another host is tried", leavesANodeThatDoesNotConfirm},
	{"a receiver that is given nothing though something is ready ends", noticesThatNothingComes},
	{"a batch that comes for the fifth time is a warning, once", warnsOfManyDeliveries},
	{"a receiver of an empty queue, and one that holds something, stay", idleReceiversStay},
	{"a queue does not rest again because its receiver was closed", closedReceiver},
	{"a refusal is called full only if the queue says that it holds something", refusalsAreTold},
	{"a queue of another type that was put in a queue's place is noticed", replacedQueue},
	{"a queue that cannot be declared stops no other partition", oneBadQueue},
	{"a limit on the user's connections is said to be a misconfiguration", connectionLimit},
	{"a queue without a leader is an error in the log, which says how it gets one", tellsOfASilentQueue},
	{"a record of the deployment without a leader says how it gets one", tellsOfASilentRegistry},
	{"a stuck queue does not disturb the other partitions", othersGoOn},
	{"a stuck queue cannot be counted, and whoever asked and goes away cuts off nobody", nobodyIsCutOff},
}

// suspend has a queue's only member do nothing until what is returned is called.
func suspend(server *servers.RabbitMQ, queue string) (resume func()) {
	member := fmt.Sprintf("whereis('%%2F_%s')", queue)
	server.Eval("ok = sys:suspend(" + member + ")")
	return func() { server.Eval("ok = sys:resume(" + member + ")") }
}

func leavesANodeThatDoesNotConfirm(t *testing.T, server *servers.RabbitMQ) {
	one := server.URL()
	two := strings.Replace(one, servers.Host, servers.Host+fmt.Sprintf(":%d,localhost", server.Port), 1)
	b := settings{URL: two}.open(t, server)
	publish(t, b, 1, 1)
	before, err := b.publishing.get()
	if err != nil {
		t.Fatal(err)
	}
	resume := suspend(server, b.queue(0))
	for range unconfirmedLimit {
		if err := b.openLane(t.Context(), b.lanes[0], before); err != nil { // so that the time is the confirmation's alone
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if err := b.Publish(ctx, 0, batchOf(self, 0, 2, 2)); err == nil || errors.Is(err, broker.ErrNotSent) || errors.Is(err, broker.ErrFull) {
			t.Fatalf("a queue that hangs: %v", err)
		}
		cancel()
	}
	resume()
	eventually(t, "publishing again", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return b.Publish(ctx, 0, batchOf(self, 0, 2, 2))
	})
	after, err := b.publishing.get()
	if err != nil || after.host == before.host {
		t.Errorf("the connection is to the same host, %s (%v)", before.host, err)
	}
}

// eventually tries until it works.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s, after a minute: %v", what, err)
		}
	}
}

func warnsOfManyDeliveries(t *testing.T, server *servers.RabbitMQ) {
	log := &logged{}
	b := settings{Logger: slog.New(slog.NewTextHandler(log, nil))}.open(t, server)
	publish(t, b, 1, 2)
	const words = "batches come again and again"
	for range manyDeliveries {
		r := subscribe(t, b)
		expect(t, r, 1, 2)
		if said := log.String(); strings.Contains(said, words) {
			t.Fatalf("it warns too early: %s", said)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	r := subscribe(t, b)
	expect(t, r, 1, 2)
	if err := r.Close(); err != nil { // the goroutine that takes deliveries has ended
		t.Fatal(err)
	}
	if said := log.String(); strings.Count(said, words) != 1 || !strings.Contains(said, "queue="+b.queue(0)) || !strings.Contains(said, "redelivered=4") {
		t.Errorf("it does not warn once, with the queue's name: %s", said)
	}
}

func noticesThatNothingComes(t *testing.T, server *servers.RabbitMQ) {
	log := &logged{}
	b := settings{Idle: 2 * time.Second, Logger: slog.New(slog.NewTextHandler(log, nil))}.open(t, server)
	// Another consumer is the active one, and holds one batch: RabbitMQ gives us nothing, as when it has forgotten us.
	other := channel(t, server)
	if err := other.Qos(1, 0, false); err != nil {
		t.Fatal(err)
	}
	held, err := other.Consume(b.queue(0), "", false, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	publish(t, b, 1, 5)
	<-held
	r := subscribe(t, b)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if got, err := r.Receive(ctx, 1); err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "delivers none") {
		t.Fatalf("%d batches, %v", len(got), err)
	}
	if !strings.Contains(log.String(), "delivers none") {
		t.Errorf("the log says nothing of it:\n%s", log)
	}
	_ = r.Close()
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	expect(t, subscribe(t, settings{Prefix: b.config.Prefix}.open(t, server)), 1, 5)
}

// logged is a log that can be read while it is written.
type logged struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.String()
}

func idleReceiversStay(t *testing.T, server *servers.RabbitMQ) {
	b := settings{Idle: 2 * time.Second}.open(t, server) // longer than a busy RabbitMQ takes to deliver what is ready
	r := subscribe(t, b)
	stays := func(what string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*b.config.Idle) // twice as long as one that is forgotten lasts
		defer cancel()
		if got, err := r.Receive(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%s: %d batches, %v", what, len(got), err)
		}
	}
	stays("an empty queue")
	publish(t, b, 1, prefetch+10)
	got := expect(t, r, 1, prefetch) // it holds all that it may, and ten are ready
	stays("a receiver that holds something")
	if err := r.Ack(t.Context(), got[len(got)-1]); err != nil {
		t.Fatal(err)
	}
	expect(t, r, prefetch+1, prefetch+10)
}

// closedReceiver opens and closes many times: whether the end of the deliveries or that of the channel is seen first is
// chance.
func closedReceiver(t *testing.T, server *servers.RabbitMQ) {
	b := settings{}.open(t, server)
	for i := range 100 {
		if err := subscribe(t, b).Close(); err != nil {
			t.Fatal(err)
		}
		q := b.states[0]
		q.mu.Lock()
		settled := q.settled
		q.mu.Unlock()
		if !settled {
			t.Fatalf("the queue is taken for one that somebody has deleted after it was opened %d times", i+1)
		}
	}
}

// A node that is gone cannot be had with one node: so RabbitMQ's own refusal is of a full queue, and what tells it from
// another is asked for apart.
func refusalsAreTold(t *testing.T, server *servers.RabbitMQ) {
	b := settings{}.open(t, server)
	if b.mayBeFull(t.Context(), b.states[0]) {
		t.Error("an empty queue may be full")
	}
	server.Eval(fmt.Sprintf(`ok = rabbit_policy:parse_set(<<"/">>, <<"nothing">>, <<"^%s[.]">>, <<"{\"max-length\":0}">>, <<"0">>,
		<<"queues">>, <<"test">>)`, b.config.Prefix))
	defer server.Eval(`ok = rabbit_policy:delete(<<"/">>, <<"nothing">>, <<"test">>)`)
	eventually(t, "being refused", func() error {
		err := b.Publish(t.Context(), 0, batchOf(self, 0, 1, 1))
		switch {
		case err == nil:
			return errors.New("it is stored")
		case !errors.Is(err, broker.ErrFull):
			t.Fatalf("a full queue refuses, and that is %v", err)
		}
		return nil
	})
	resume := suspend(server, b.queue(0))
	if b.mayBeFull(t.Context(), b.states[0]) {
		t.Error("a queue whose leader does not answer is taken for full")
	}
	resume()
}

func replacedQueue(t *testing.T, server *servers.RabbitMQ) {
	b := settings{Redeclare: 100 * time.Millisecond}.open(t, server)
	publish(t, b, 1, 1)
	ch := channel(t, server)
	if _, err := ch.QueueDelete(b.queue(0), false, false, false); err != nil {
		t.Fatal(err)
	}
	if _, err := ch.QueueDeclare(b.queue(0), true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		err := b.Publish(t.Context(), 0, batchOf(self, 0, 2, 2))
		if errors.Is(err, broker.ErrMisconfigured) && errors.Is(err, broker.ErrNotSent) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("publishing to a queue of another type: %v", err)
		}
	}
	if _, err := b.Open(t.Context(), 0, "", false); !errors.Is(err, broker.ErrMisconfigured) {
		t.Errorf("subscribing to it: %v", err)
	}
}

func oneBadQueue(t *testing.T, server *servers.RabbitMQ) {
	c := Config{URL: server.URL(), Partitions: 2, Prefix: fmt.Sprintf("test%d", prefixes.Add(1))}
	b := open(t, c)
	t.Cleanup(func() { _ = b.Close() })
	ch := channel(t, server)
	if _, err := ch.QueueDelete(b.queue(1), false, false, false); err != nil {
		t.Fatal(err)
	}
	if _, err := ch.QueueDeclare(b.queue(1), true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	s, err := b.publishing.get()
	if err != nil {
		t.Fatal(err)
	}
	s.cut()
	eventually(t, "publishing to the other queue", func() error { return b.Publish(t.Context(), 0, batchOf(self, 0, 1, 1)) })
	if err := b.Publish(t.Context(), 1, batchOf(self, 1, 1, 1)); !errors.Is(err, broker.ErrMisconfigured) {
		t.Errorf("publishing to the bad one: %v", err)
	}
	if err := b.Ping(t.Context()); err != nil {
		t.Errorf("Ping: %v", err)
	}
}

func connectionLimit(t *testing.T, server *servers.RabbitMQ) {
	server.AddUser("limited")
	server.Permit("limited", ".*", ".*", ".*")
	server.Eval(`ok = rabbit_auth_backend_internal:set_user_limits(<<"limited">>, <<"{\"max-connections\": 1}">>, <<"test">>)`)
	url := fmt.Sprintf("amqp://limited:secret@%s:%d/", servers.Host, server.Port)
	b := settings{URL: url}.open(t, server)
	publish(t, b, 1, 1)
	var refused error
	if _, refused = b.Open(t.Context(), 0, "", false); !errors.Is(refused, broker.ErrMisconfigured) || strings.Contains(refused.Error(), "limited:") {
		t.Errorf("subscribing over a second connection: %v", refused)
	}
	server.Eval(`ok = rabbit_auth_backend_internal:clear_user_limits(<<"limited">>, <<"max-connections">>, <<"test">>)`)
	expect(t, subscribe(t, b), 1, 1)
}
