package amqp10

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	amqp "github.com/Azure/go-amqp"
)

// deliveryLimit is how often RabbitMQ may deliver a message: in practice, any number. Version 4 drops it after 20 deliveries
// by default, and without a limit (-1) what is given back goes to the end of the queue.
const deliveryLimit = 1_000_000_000

func rabbitCommand(q queue) string {
	return fmt.Sprintf(`rabbitmqadmin declare queue name=%s durable=true arguments='{"x-queue-type": "quorum", "x-single-active-consumer": true, `+
		`"x-delivery-limit": %d, "x-overflow": "reject-publish", "x-max-length-bytes": %d}'`, q.name, deliveryLimit, q.maxBytes)
}

// maxLength is the argument of a queue that may be another than we would give it.
const maxLength = "x-max-length-bytes"

// arguments are those of a queue, as package rabbitmq has them. They are fixed when it is made.
func arguments(q queue) map[string]any {
	return map[string]any{
		"x-queue-type": "quorum", "x-single-active-consumer": true, "x-delivery-limit": int64(deliveryLimit),
		"x-overflow": "reject-publish", maxLength: q.maxBytes,
	}
}

// management asks RabbitMQ 4 over a pair of links, by HTTP in messages.
type management struct {
	ask     *amqp.Sender
	answers *amqp.Receiver
}

// management attaches the links, once for a session.
func (s *session) management(ctx context.Context) (m management, err error) {
	if s.managed != nil {
		return *s.managed, nil
	}
	const node, here, link, credit = "/management", "drainmark", "drainmark-management", 8
	paired := map[string]any{"paired": true}
	m.answers, err = s.NewReceiver(ctx, node, &amqp.ReceiverOptions{
		Name: link, TargetAddress: here, Properties: paired, Credit: credit, RequestedSenderSettleMode: amqp.SenderSettleModeSettled.Ptr(),
	})
	if err == nil {
		m.ask, err = s.NewSender(ctx, node, &amqp.SenderOptions{
			Name: link, SourceAddress: here, Properties: paired, SettlementMode: amqp.SenderSettleModeSettled.Ptr(),
		})
	}
	if err == nil {
		s.managed = &m
	}
	return m, err
}

// do sends a request, and returns the status and the body of the answer.
func (m management) do(ctx context.Context, method, path string, body any) (status string, answer any, err error) {
	me := "$me"
	request := &amqp.Message{Properties: &amqp.MessageProperties{MessageID: path, To: &path, Subject: &method, ReplyTo: &me}, Value: body}
	if err := m.ask.Send(ctx, request, nil); err != nil { // it is settled when it is sent: there is no outcome
		return "", nil, err
	}
	said, err := m.answers.Receive(ctx, nil)
	switch {
	case err != nil:
		return "", nil, err
	case said.Properties == nil || said.Properties.Subject == nil:
		return "", nil, errors.New("RabbitMQ's answer has no status")
	}
	return *said.Properties.Subject, said.Value, nil
}

// manage makes a queue, or sees that the one that is there is as it must be. To look at one takes no right.
func (s *session) manage(ctx context.Context, q queue) error {
	m, err := s.management(ctx)
	if err != nil {
		return err
	}
	path := s.product.address(q.name)
	status, answer, err := m.do(ctx, "GET", path, amqp.Null{})
	if err == nil && status == "404" {
		status, answer, err = m.do(ctx, "PUT", path, map[string]any{
			"durable": true, "exclusive": false, "auto_delete": false, "arguments": arguments(q),
		})
	}
	if err != nil {
		return err
	}
	return s.judge(q, status, answer)
}

// judge reads what RabbitMQ answers about a queue.
func (s *session) judge(q queue, status string, answer any) error {
	switch status {
	case "200", "201":
	case "400", "409":
		return misconfigured("RabbitMQ does not make queue %s (%v): %s", q.name, answer, rabbitCommand(q))
	case "401", "403":
		return misconfigured("RabbitMQ does not let us make queue %s (%v): give the user the right, or %s", q.name, answer, rabbitCommand(q))
	default:
		return fmt.Errorf("RabbitMQ answers with status %s: %v", status, answer)
	}
	is, _ := answer.(map[string]any)
	if wrong := unfit(q, is); len(wrong) > 0 {
		return misconfigured("queue %s has %s: let what is in it be consumed by whoever made it, and delete it, or use another vhost or prefix",
			q.name, strings.Join(wrong, ", "))
	}
	count, _ := is["message_count"].(uint64)
	s.server.rests.seen(q.name, status == "201", count > 0)
	return nil
}

// unfit says what of a queue would lose something, or is not as the adapter needs it.
func unfit(q queue, is map[string]any) (wrong []string) {
	has, _ := is["arguments"].(map[string]any)
	for name, want := range arguments(q) {
		if got := has[name]; name != maxLength && fmt.Sprint(got) != fmt.Sprint(want) {
			wrong = append(wrong, fmt.Sprintf("%s %v in place of %v", name, got, want))
		}
	}
	for _, name := range []string{"x-message-ttl", "x-expires"} {
		if got, set := has[name]; set {
			wrong = append(wrong, fmt.Sprintf("%s %v, after which messages are gone", name, got))
		}
	}
	slices.Sort(wrong)
	return wrong
}
