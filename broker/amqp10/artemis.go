package amqp10

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	amqp "github.com/Azure/go-amqp"
)

// addressSettings are what Artemis says about an address. What is not set has Artemis's default.
type addressSettings map[string]any

// harmful says which settings make Artemis drop what it has accepted, and how they must be.
func (a addressSettings) harmful() (wrong []string) {
	for name, setting := range map[string]struct {
		usual   any
		harms   func(value string) bool
		element string
		wanted  string
	}{
		"maxDeliveryAttempts":      {10, func(v string) bool { return v != "-1" }, "max-delivery-attempts", "-1"},
		"autoDeleteQueues":         {true, func(v string) bool { return v == "true" }, "auto-delete-queues", "false"},
		"expiryDelay":              {-1, func(v string) bool { return v != "-1" }, "expiry-delay", "-1"},
		"maxExpiryDelay":           {-1, func(v string) bool { return v != "-1" }, "max-expiry-delay", "-1"},
		"addressFullMessagePolicy": {"PAGE", func(v string) bool { return v == "DROP" }, "address-full-policy", "FAIL or PAGE"},
	} {
		value, set := a[name]
		if !set {
			value = setting.usual
		}
		if text := fmt.Sprint(value); setting.harms(text) {
			wrong = append(wrong, fmt.Sprintf("%s is %s and must be %s", setting.element, text, setting.wanted))
		}
	}
	slices.Sort(wrong)
	return wrong
}

// examine refuses a queue whose settings drop messages, where Artemis lets us read them. Where it does not, they are in the
// hands of who has set it up, and the log says so. What is known of a queue is not asked again.
func (s *session) examine(ctx context.Context, q queue) error {
	if _, known := s.server.examined.Load(q.name); known {
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, s.server.config.Timeout)
	defer cancel()
	settings, err := s.addressSettings(asking, q)
	wrong := settings.harmful()
	var refused *amqp.Error
	switch {
	case ctx.Err() != nil || s.ended():
		return err
	case errors.As(err, &refused) || errors.Is(err, errAnswer):
		s.server.examined.Store(q.name, true)
		s.server.config.Logger.Info("Artemis does not let us read its address settings: see that none drops messages (docs/deploying.md)", "queue", q.name, "error", err)
	case err != nil:
		s.server.config.Logger.Info("Artemis has not said its address settings; it is asked again over the next connection", "queue", q.name, "error", err)
	case len(wrong) > 0:
		return misconfigured("Artemis drops messages of queue %s: %s, in an address-setting with match=%q", q.name, strings.Join(wrong, ", "), s.server.config.Prefix+".#")
	default:
		s.server.examined.Store(q.name, true)
	}
	return nil
}

// errAnswer says that Artemis has answered with something else than settings.
var errAnswer = errors.New("the answer has no settings")

// addressSettings asks Artemis's management, whose answer comes to a queue of our own that ends with the link.
func (s *session) addressSettings(ctx context.Context, q queue) (settings addressSettings, err error) {
	ask, err := s.NewSender(ctx, "activemq.management", nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = ask.Close(ctx) }()
	answers, err := s.NewReceiver(ctx, "", &amqp.ReceiverOptions{DynamicAddress: true})
	if err != nil {
		return nil, err
	}
	defer func() { _ = answers.Close(ctx) }()
	address := answers.Address()
	receipt, err := ask.SendWithReceipt(ctx, &amqp.Message{
		Properties: &amqp.MessageProperties{ReplyTo: &address}, Value: fmt.Sprintf("[%q]", q.name),
		ApplicationProperties: map[string]any{"_AMQ_ResourceName": "broker", "_AMQ_OperationName": "getAddressSettingsAsJSON"},
	}, nil)
	var state amqp.DeliveryState
	if err == nil {
		state, err = receipt.Wait(ctx)
	}
	if _, accepted := state.(*amqp.StateAccepted); err == nil && !accepted {
		err = fmt.Errorf("%w: %v", errAnswer, state)
	}
	if err != nil {
		return nil, err
	}
	answer, err := answers.Receive(ctx, nil)
	if err != nil {
		return nil, err
	}
	return settingsIn(answer)
}

// settingsIn reads an answer: settings in JSON, as the one text of a list in JSON.
func settingsIn(answer *amqp.Message) (settings addressSettings, err error) {
	var results []string
	if done, _ := answer.ApplicationProperties["_AMQ_OperationSucceeded"].(bool); !done {
		err = errAnswer
	} else if err = json.Unmarshal(body(answer), &results); err == nil && len(results) == 1 {
		err = json.Unmarshal([]byte(results[0]), &settings)
	}
	if err != nil || settings == nil {
		return nil, fmt.Errorf("%w: %.200s", errAnswer, body(answer))
	}
	return settings, nil
}
