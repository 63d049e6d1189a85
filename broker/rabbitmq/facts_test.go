package rabbitmq

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/drainmark/drainmark/test/servers"
)

// factCases measure what RabbitMQ does, with the client library alone. The adapter's rules rest on it: where one of them
// fails, RabbitMQ has changed, and the rule that the case names should be thought over.
var factCases = []serverCase{
	{"queue.declare counts nothing of what a consumer holds: so it says nothing of what is persisted", declareCountsReadyOnly},
	{"queue.declare says 0 when the queue's leader does not answer in time: so 0 proves nothing", declareFalseZero},
	{"an unroutable message is confirmed, after it was returned: so returns are failures", unroutableIsConfirmed},
	{"closing the channel gives back in order: so trouble closes it", closeKeepsOrder},
	{"before RabbitMQ 4 nack gives back out of order, with and without a delivery limit: so it is never used", nackBreaksOrder},
	{"cancel lets the next consumer overtake what is held: so it is never used", cancelIsOvertaken},
	{"without a single active consumer two deaths break the order: so there is one", twoConsumersBreakOrder},
	{"with a smaller prefetch a second death breaks the order: so all have the same", smallerPrefetchBreaksOrder},
	{"from RabbitMQ 4 a queue without a delivery limit of its own drops after 20 deliveries: so ours has one", deliveriesAreLimited},
}

// queueOf declares a quorum queue with further arguments, and publishes 1 to n to it, confirmed.
func queueOf(t *testing.T, server *servers.RabbitMQ, n int, more amqp.Table) string {
	t.Helper()
	name := fmt.Sprintf("fact%d", prefixes.Add(1))
	arguments := amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum}
	for k, v := range more {
		arguments[k] = v
	}
	ch := channel(t, server)
	if _, err := ch.QueueDeclare(name, true, false, false, false, arguments); err != nil {
		t.Fatal(err)
	}
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	var last *amqp.DeferredConfirmation
	for i := range n {
		var err error
		last, err = ch.PublishWithDeferredConfirm("", name, true, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: fmt.Append(nil, i+1)})
		if err != nil {
			t.Fatal(err)
		}
	}
	if !last.Wait() {
		t.Fatal("not confirmed")
	}
	return name
}

// reader consumes a queue on a connection of its own.
type reader struct {
	t    *testing.T
	conn *amqp.Connection
	ch   *amqp.Channel
	tag  string
	in   <-chan amqp.Delivery
	last uint64
}

func consume(t *testing.T, server *servers.RabbitMQ, queue string, prefetch int) *reader {
	t.Helper()
	r := &reader{t: t, conn: server.Dial(), tag: fmt.Sprintf("reader%d", prefixes.Add(1))}
	var err error
	if r.ch, err = r.conn.Channel(); err == nil {
		if err = r.ch.Qos(prefetch, 0, false); err == nil {
			r.in, err = r.ch.Consume(queue, r.tag, false, false, false, false, nil)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// read returns the numbers of the next n messages.
func (r *reader) read(n int) []int {
	r.t.Helper()
	var got []int
	for len(got) < n {
		select {
		case d, open := <-r.in:
			if !open {
				r.t.Fatal("the channel was closed")
			}
			var number int
			if _, err := fmt.Sscan(string(d.Body), &number); err != nil {
				r.t.Fatal(err)
			}
			got = append(got, number)
			r.last = d.DeliveryTag
		case <-time.After(time.Minute):
			r.t.Fatalf("only %v came, not %d", got, n)
		}
	}
	return got
}

// next returns the next message, which must be of a type.
func (r *reader) next(kind string) amqp.Delivery {
	r.t.Helper()
	select {
	case d, open := <-r.in:
		if !open || d.Type != kind {
			r.t.Fatalf("a %s came, not a %s", d.Type, kind)
		}
		return d
	case <-time.After(time.Minute):
		r.t.Fatalf("no %s came", kind)
	}
	return amqp.Delivery{} // not reached: Fatalf does not return
}

func numbers(first, last int) []int {
	var n []int
	for i := first; i <= last; i++ {
		n = append(n, i)
	}
	return n
}

func sees(t *testing.T, what string, got, want []int) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %v, not %v", what, got, want)
	}
}

func declareCountsReadyOnly(t *testing.T, server *servers.RabbitMQ) {
	queue := queueOf(t, server, 100, nil)
	ask := channel(t, server)
	before, err := ask.QueueDeclarePassive(queue, true, false, false, false, nil)
	if err != nil || before.Messages != 100 {
		t.Fatalf("before there is a consumer: %d (%v)", before.Messages, err)
	}
	consume(t, server, queue, 1000).read(100) // and none acknowledged
	during, err := ask.QueueDeclarePassive(queue, true, false, false, false, nil)
	if err != nil || during.Messages != 0 {
		t.Errorf("while a consumer holds all 100: %d (%v)", during.Messages, err)
	}
}

func declareFalseZero(t *testing.T, server *servers.RabbitMQ) {
	queue := queueOf(t, server, 100, nil)
	resume := suspend(server, queue)
	got, err := channel(t, server).QueueDeclarePassive(queue, true, false, false, false, nil)
	resume()
	if err != nil || got.Messages != 0 {
		t.Errorf("of 100 messages, while the leader does not answer: %d (%v)", got.Messages, err)
	}
}

func unroutableIsConfirmed(t *testing.T, server *servers.RabbitMQ) {
	ch := channel(t, server)
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	returned := ch.NotifyReturn(make(chan amqp.Return, 1))
	confirmation, err := ch.PublishWithDeferredConfirm("", "no-such-queue", true, false, amqp.Publishing{})
	if err != nil {
		t.Fatal(err)
	}
	if acked := confirmation.Wait(); !acked || len(returned) != 1 {
		t.Errorf("confirmed: %v, returned before that: %d", acked, len(returned))
	}
}

func closeKeepsOrder(t *testing.T, server *servers.RabbitMQ) {
	for _, limit := range []amqp.Table{nil, {"x-delivery-limit": int64(deliveryLimit)}} {
		queue := queueOf(t, server, 200, limit)
		r := consume(t, server, queue, 100)
		r.read(100)
		if err := r.ch.Close(); err != nil {
			t.Fatal(err)
		}
		sees(t, "after the channel was closed", consume(t, server, queue, 200).read(200), numbers(1, 200))
	}
}

func nackBreaksOrder(t *testing.T, server *servers.RabbitMQ) {
	major, _ := server.Version()
	for name, limit := range map[string]amqp.Table{"no limit": nil, "a limit": {"x-delivery-limit": int64(deliveryLimit)}} {
		queue := queueOf(t, server, 200, limit)
		r := consume(t, server, queue, 100)
		r.read(100)
		if err := r.ch.Nack(r.last, true, true); err != nil {
			t.Fatal(err)
		}
		got := r.read(100)
		if kept := slices.IsSorted(got) && got[0] == 1; kept != (major >= 4) {
			t.Errorf("with %s, nack kept the order: %v", name, kept)
		}
	}
}

func cancelIsOvertaken(t *testing.T, server *servers.RabbitMQ) {
	queue := queueOf(t, server, 20, amqp.Table{amqp.SingleActiveConsumerArg: true})
	first, second := consume(t, server, queue, 10), consume(t, server, queue, 10)
	sees(t, "the active consumer gets", first.read(10), numbers(1, 10))
	if err := first.ch.Cancel(first.tag, false); err != nil {
		t.Fatal(err)
	}
	sees(t, "while the first holds 1 to 10, the second gets", second.read(10), numbers(11, 20))
}

func twoConsumersBreakOrder(t *testing.T, server *servers.RabbitMQ) {
	queue := queueOf(t, server, 30, nil)
	a := consume(t, server, queue, 10)
	a.read(10)
	b := consume(t, server, queue, 10)
	b.read(10)
	_ = b.conn.Close()
	_ = a.conn.Close()
	got := consume(t, server, queue, 30).read(30)
	if slices.IsSorted(got) {
		t.Errorf("after two deaths the order is still %v", got)
	}
}

func smallerPrefetchBreaksOrder(t *testing.T, server *servers.RabbitMQ) {
	queue := queueOf(t, server, 20, amqp.Table{amqp.SingleActiveConsumerArg: true})
	first := consume(t, server, queue, 10)
	first.read(10)
	second := consume(t, server, queue, 5)
	_ = first.conn.Close()
	sees(t, "the second gets", second.read(5), numbers(1, 5))
	third := consume(t, server, queue, 20)
	_ = second.conn.Close()
	if got := third.read(20); slices.IsSorted(got) {
		t.Errorf("after a death with a smaller prefetch the order is still %v", got)
	}
}

func deliveriesAreLimited(t *testing.T, server *servers.RabbitMQ) {
	const most = 25 // more than the limit of 20
	major, _ := server.Version()
	for name, c := range map[string]struct {
		limit   amqp.Table
		dropped bool
	}{"none": {nil, major >= 4}, "ours": {amqp.Table{"x-delivery-limit": int64(deliveryLimit)}, false}} {
		dead, letters := deadLetters(t, server)
		arguments := amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
		maps.Copy(arguments, c.limit)
		queue := queueOf(t, server, 1, arguments)
		deliveries, dropped := 0, false
		for deliveries < most && !dropped {
			r := consume(t, server, queue, 1)
			select {
			case <-r.in:
				deliveries++
			case <-letters:
				dropped = true
			case <-time.After(time.Minute):
				t.Fatalf("with the limit %s, neither a delivery nor a dead letter after %d", name, deliveries)
			}
			_ = r.conn.Close()
		}
		if dropped != c.dropped {
			t.Errorf("with the limit %s, dropped after %d deliveries: %v", name, deliveries, dropped)
		}
	}
}

// deadLetters makes a queue, and returns what comes into it.
func deadLetters(t *testing.T, server *servers.RabbitMQ) (queue string, letters <-chan amqp.Delivery) {
	t.Helper()
	ch := channel(t, server)
	q, err := ch.QueueDeclare("", false, false, true, false, nil)
	if err == nil {
		letters, err = ch.Consume(q.Name, "", true, false, false, false, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return q.Name, letters
}
