package amqp10

import (
	"context"
	"sync"

	amqp "github.com/Azure/go-amqp"
)

// capability says that an address is a queue's. Without it some servers take it for a topic's.
var capability = []string{"queue"}

// sender attaches a link to publish on. Every message must be settled by the server.
func (s *session) sender(ctx context.Context, q queue) (*amqp.Sender, error) {
	sender, err := s.NewSender(ctx, s.product.address(q.name), &amqp.SenderOptions{
		SettlementMode: amqp.SenderSettleModeUnsettled.Ptr(), TargetCapabilities: capability,
	})
	if err != nil {
		return nil, err
	}
	if limit := sender.MaxMessageSize(); limit != 0 && limit < maxPayload+maxHeaders {
		return nil, misconfigured("%s takes messages of %d bytes in queue %s: it must take %d", s.product.name, limit, q.name, maxPayload+maxHeaders)
	}
	return sender, nil
}

// inbound is a link to receive on. It says itself how many more messages may come, and only when all have come that it has
// let come before. RabbitMQ's plugin counts what it has sent and not what it is about to send, so with every earlier word it
// would send more than it may. The client library counts that to below zero, and then nothing comes any more. It says so for
// many at once: ActiveMQ loses count of many small ones.
type inbound struct {
	*amqp.Receiver
	credit credit
}

// credit is how many messages may come. Its methods may be called concurrently.
type credit struct {
	mu      sync.Mutex
	coming  uint32 // how many may still come
	settled uint32 // since more were let come
}

// lump is how many are settled before as many others may come. Who holds 32 still gets more.
const lump = prefetch / 2

// count counts what has come and what was settled, and says how many more may come now.
func (c *credit) count(came, settled uint32) (more uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.coming -= min(came, c.coming)
	c.settled += settled
	if c.coming > 0 || c.settled < lump {
		return 0
	}
	c.coming, c.settled = c.settled, 0
	return c.coming
}

// count lets more messages come when it is time.
func (l *inbound) count(came, settled uint32) error {
	if more := l.credit.count(came, settled); more > 0 {
		return l.IssueCredit(more)
	}
	return nil
}

// next returns the next message.
func (l *inbound) next(ctx context.Context) (*amqp.Message, error) {
	m, err := l.Receive(ctx, nil)
	if err != nil {
		return nil, err
	}
	return m, l.count(1, 0)
}

// accept settles messages. Those that are nil are none.
func (l *inbound) accept(ctx context.Context, messages ...*amqp.Message) error {
	settled := uint32(0)
	for _, m := range messages {
		if m == nil {
			continue
		}
		if err := l.AcceptMessage(ctx, m); err != nil {
			return err
		}
		settled++
	}
	return l.count(0, settled)
}

// receiver attaches a link on which so many messages may come before one is settled. The server must not take them for
// settled when it has sent them.
func (s *session) receiver(ctx context.Context, q queue, most uint32) (*inbound, error) {
	link, err := s.NewReceiver(ctx, s.product.address(q.name), &amqp.ReceiverOptions{
		Credit: -1, SettlementMode: amqp.ReceiverSettleModeFirst.Ptr(), SourceCapabilities: capability,
		RequestedSenderSettleMode: amqp.SenderSettleModeUnsettled.Ptr(),
	})
	if err == nil && most > 0 {
		err = link.IssueCredit(most)
	}
	return &inbound{link, credit{coming: most}}, err
}
