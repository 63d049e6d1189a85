package amqp10

import (
	"fmt"
	"strings"
)

// product is what depends on the server.
type product struct {
	name    string
	address func(queue string) string
	// grouped says that messages of one group go to one receiver only. All of a queue are then in one group, so that nobody
	// receives while another one holds something.
	grouped bool
	manages bool                 // makes queues over AMQP (manage). Others make one when somebody attaches to it, or never do.
	blind   bool                 // lets a sender attach where there is no queue
	tells   bool                 // may say how the queue is set up (examine)
	howTo   func(q queue) string // what makes the queue, for people
}

func plainName(queue string) string { return queue }

var (
	activeMQ = product{
		name: "ActiveMQ", address: func(queue string) string { return "queue://" + queue }, grouped: true,
		howTo: func(q queue) string {
			return fmt.Sprintf(`let the user create queues, or add <queue physicalName="%s"/> to destinations in activemq.xml`, q.name)
		},
	}
	artemis = product{
		name: "Artemis", address: plainName, grouped: true, tells: true,
		howTo: func(q queue) string {
			return fmt.Sprintf("artemis queue create --name %[1]s --address %[1]s --anycast --durable --preserve-on-no-consumers --auto-create-address", q.name)
		},
	}
	rabbitMQ4 = product{
		name: "RabbitMQ", address: func(queue string) string { return "/queues/" + queue }, manages: true, howTo: rabbitCommand,
	}
	// rabbitMQ3 has AMQP 1.0 as a plugin, which makes no queues with arguments.
	rabbitMQ3 = product{
		name: "RabbitMQ", address: func(queue string) string { return "/amq/queue/" + queue }, blind: true, howTo: rabbitCommand,
	}
	// ibmMQ is also anything else that takes a queue's name for its address.
	ibmMQ = product{
		name: "the server", address: plainName,
		howTo: func(q queue) string {
			return fmt.Sprintf("on IBM MQ, DEFINE QLOCAL('%s') DEFPSIST(YES) NOSHARE DEFSOPT(EXCL) MSGDLVSQ(FIFO) BOTHRESH(0) MAXMSGL(%d), and the rights to it (docs/ibm-mq.md)",
				q.name, maxPayload+maxHeaders)
		},
	}
)

// productOf knows the server by what it says of itself.
func productOf(properties map[string]any) product {
	name, _ := properties["product"].(string)
	version, _ := properties["version"].(string)
	switch {
	case name == "RabbitMQ" && strings.HasPrefix(version, "3."):
		return rabbitMQ3
	case name == "RabbitMQ":
		return rabbitMQ4
	case name == "ActiveMQ":
		return activeMQ
	case strings.Contains(name, "artemis"):
		return artemis
	}
	return ibmMQ
}
