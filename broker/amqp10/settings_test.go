package amqp10

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/test/servers"
)

// TestArtemisThatDrops: settings that drop accepted messages are refused where they can be read, and named.
func TestArtemisThatDrops(t *testing.T) {
	t.Parallel()
	server := servers.StartArtemis(t, servers.ArtemisOptions{Addresses: `<address-setting match="drops.#">
		<max-delivery-attempts>10</max-delivery-attempts><auto-delete-queues>true</auto-delete-queues>
		<expiry-delay>1000</expiry-delay><address-full-policy>DROP</address-full-policy></address-setting>`})
	b, err := Open(t.Context(), Config{URL: server.URL(), Partitions: 1, Prefix: "drops", Timeout: answerTime})
	if err == nil { // on a busy machine Open has given up
		defer b.Close()
		err = b.Publish(t.Context(), 0, single(1))
	}
	for _, want := range []string{"max-delivery-attempts is 10", "auto-delete-queues is true", "expiry-delay is 1000", "address-full-policy is DROP", `"drops.#"`} {
		if !errors.Is(err, broker.ErrMisconfigured) || !strings.Contains(err.Error(), want) {
			t.Errorf("it ends with %v, without %q", err, want)
		}
	}
	whole := open(t, Config{URL: server.URL(), Partitions: 1, Timeout: answerTime})
	defer whole.Close()
	if err := whole.Publish(t.Context(), 0, single(1)); err != nil {
		t.Errorf("publishing where nothing is dropped: %v", err)
	}
}

// Without a setting, what Artemis does by itself counts.
func TestHarmfulByDefault(t *testing.T) {
	t.Parallel()
	got := strings.Join(addressSettings{}.harmful(), "; ")
	if want := "auto-delete-queues is true and must be false; max-delivery-attempts is 10 and must be -1"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestUnfitQueues: a queue of RabbitMQ that somebody else has made, and that would lose something, is refused.
func TestUnfitQueues(t *testing.T) {
	t.Parallel()
	q := queue{"q", 1000}
	for name, test := range map[string]struct {
		change func(arguments map[string]any)
		want   string
	}{
		"as it is made":           {func(map[string]any) {}, ""},
		"another limit":           {func(a map[string]any) { a[maxLength] = int64(5) }, ""},
		"the limit of RabbitMQ":   {func(a map[string]any) { delete(a, "x-delivery-limit") }, "x-delivery-limit <nil>"},
		"a classic queue":         {func(a map[string]any) { a["x-queue-type"] = "classic" }, "x-queue-type classic"},
		"many consumers":          {func(a map[string]any) { delete(a, "x-single-active-consumer") }, "x-single-active-consumer"},
		"one that drops its head": {func(a map[string]any) { a["x-overflow"] = "drop-head" }, "x-overflow drop-head"},
		"messages that expire":    {func(a map[string]any) { a["x-message-ttl"] = int64(1) }, "x-message-ttl 1"},
	} {
		arguments := arguments(q)
		test.change(arguments)
		got := strings.Join(unfit(q, map[string]any{"arguments": arguments}), "; ")
		if (test.want == "") != (got == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// TestRests: a queue rests from when it was seen first or made anew, and one in which there was something has rested.
func TestRests(t *testing.T) {
	t.Parallel()
	r := rests{lasts: time.Hour, until: map[string]time.Time{}}
	resting := func(name string) bool {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		return r.wait(ctx, name) != nil
	}
	r.seen("new", false, false)
	r.seen("used", false, true)
	for name, want := range map[string]bool{"new": true, "used": false, "unknown": false} {
		if got := resting(name); got != want {
			t.Errorf("%s: does it rest? %v", name, got)
		}
	}
	r.until["new"] = time.Now()
	r.seen("new", false, false)
	r.anew()
	if resting("new") {
		t.Error("a rest that is over begins anew")
	}
	if r.seen("new", true, false); !resting("new") {
		t.Error("a queue that was made anew does not rest")
	}
}

// TestCredit: more may come only when all have come that may, and only for many at once, which are as many as were settled.
func TestCredit(t *testing.T) {
	t.Parallel()
	c := credit{coming: prefetch}
	for _, step := range []struct{ came, settled, more uint32 }{
		{40, 0, 0}, {0, 40, 0}, // 24 are on their way
		{24, 0, 40}, // all have come
		{0, 24, 0}, {39, 10, 0}, {0, 30, 0}, {1, 0, 64},
		{64, 31, 0}, {0, 1, 32}, // a lump
		{33, 0, 0}, // one too many
	} {
		if got := c.count(step.came, step.settled); got != step.more {
			t.Errorf("after %+v so many more may come: %d", step, got)
		}
	}
}
