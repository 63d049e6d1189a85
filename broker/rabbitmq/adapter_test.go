package rabbitmq

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/test/servers"
)

// adapterCases have what the suite cannot know: RabbitMQ's own ways to go wrong.
var adapterCases = []serverCase{
	{"a queue of another type is refused, and the error says what to do", refusesOtherQueues},
	{"a queue made with another limit is used as it is", keepsLimit},
	{"a batch for a queue that was deleted is not taken for stored, and the queue is made again", deletedQueue},
	{"a host to which a connection has ended is tried last", otherHost},
	{"a receiver whose queue is deleted ends", receiverOfDeletedQueue},
	{"what a second holder held stands before everything else, also after a second death", secondDeath},
	{"a person sees queues, headers and connections by understandable names", understandable},
	{"a wrong password is refused, and never shown", wrongPassword},
	{"the rights in deploy/permissions suffice, and each is needed", rightsAreNeeded},
	{"permissions of users who are not there are refused", usersComeFirst},
	{"a backend's user takes nothing from the queues, and a consumer's puts nothing in", rolesAreApart},
	{"of several hosts one that lives is used", severalHosts},
}

// make opens a broker with queues of its own.
func (s settings) open(t *testing.T, server *servers.RabbitMQ) *Broker {
	t.Helper()
	c := Config(s)
	if c.URL == "" {
		c.URL = server.URL()
	}
	if c.Prefix == "" {
		c.Prefix = fmt.Sprintf("test%d", prefixes.Add(1))
	}
	c.Partitions = 1
	b := open(t, c)
	t.Cleanup(func() { _ = b.Close() })
	return b
}

type settings Config

func channel(t *testing.T, server *servers.RabbitMQ) *amqp.Channel {
	t.Helper()
	ch, err := server.Dial().Channel()
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

var self = drainmark.NewProducerID()

func publish(t *testing.T, b *Broker, first, last uint64) {
	t.Helper()
	for s := first; s <= last; s++ {
		if err := b.Publish(t.Context(), 0, batchOf(self, 0, s, s)); err != nil {
			t.Fatalf("publishing %d: %v", s, err)
		}
	}
}

func subscribe(t *testing.T, b *Broker) broker.Receiver {
	t.Helper()
	r, err := b.Open(t.Context(), 0, "", false)
	if err != nil {
		t.Fatalf("subscribing: %v", err)
	}
	return r
}

// expect receives the batches first to last, in order.
func expect(t *testing.T, r broker.Receiver, first, last uint64) []broker.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all []broker.Delivery
	for next := first; next <= last; {
		got, err := r.Receive(ctx, int(last-next)+1)
		if err != nil {
			t.Fatalf("receiving %d of %d to %d: %v", next, first, last, err)
		}
		for _, d := range got {
			if d.First != next {
				t.Fatalf("received %d, not %d, of %d to %d", d.First, next, first, last)
			}
			next++
		}
		all = append(all, got...)
	}
	return all
}

func refusesOtherQueues(t *testing.T, server *servers.RabbitMQ) {
	for _, other := range []amqp.Table{
		{},
		{amqp.QueueTypeArg: amqp.QueueTypeQuorum},
		{amqp.QueueTypeArg: amqp.QueueTypeStream},
	} {
		c := Config{URL: server.URL(), Partitions: 1, Prefix: fmt.Sprintf("other%d", prefixes.Add(1))}
		if _, err := channel(t, server).QueueDeclare(c.Prefix+".p0", true, false, false, false, other); err != nil {
			t.Fatal(err)
		}
		b, err := Open(t.Context(), c)
		if err == nil {
			_ = b.Close()
		}
		if !errors.Is(err, broker.ErrMisconfigured) || !strings.Contains(err.Error(), c.Prefix+".p0") || !strings.Contains(err.Error(), "delete it") {
			t.Errorf("with a queue %v: %v", other, err)
		}
	}
}

func keepsLimit(t *testing.T, server *servers.RabbitMQ) {
	first := settings{MaxBytes: 4 * maxPayload}.open(t, server)
	publish(t, first, 1, 1)
	var log bytes.Buffer
	c := settings{MaxBytes: 8 * maxPayload, Prefix: first.config.Prefix, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	second := c.open(t, server)
	publish(t, second, 2, 2)
	_ = second.Close()
	if !strings.Contains(log.String(), fmt.Sprint("bytes=", 4*maxPayload)) {
		t.Errorf("the log does not say which limit is in force:\n%s", log.String())
	}
}

func outlastsConsumerTimeout(t *testing.T, server *servers.RabbitMQ) {
	timeout := func(milliseconds int) {
		server.Eval(fmt.Sprintf("application:set_env(rabbit, consumer_timeout, %d)", milliseconds))
	}
	const usual = 1_800_000
	timeout(5000)
	defer timeout(usual)
	b := settings{}.open(t, server)
	publish(t, b, 1, 3)
	r := subscribe(t, b)
	expect(t, r, 1, 3)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if got, err := r.Receive(ctx, 1); err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "timed out") {
		t.Fatalf("a receiver that holds batches for longer than consumer_timeout: %d batches, %v", len(got), err)
	}
	if err := r.Ack(t.Context(), broker.Delivery{Tag: 3}); err == nil {
		t.Error("Ack over a channel that RabbitMQ has closed returned nil")
	}
	_ = r.Close()
	timeout(usual)
	expect(t, subscribe(t, b), 1, 3)
}

func deletedQueue(t *testing.T, server *servers.RabbitMQ) {
	b := settings{}.open(t, server)
	publish(t, b, 1, 1)
	if _, err := channel(t, server).QueueDelete(b.queue(0), false, false, false); err != nil {
		t.Fatal(err)
	}
	err := b.Publish(t.Context(), 0, batchOf(self, 0, 2, 2))
	if err == nil || errors.Is(err, broker.ErrNotSent) {
		t.Fatalf("publishing to a queue that is gone: %v", err)
	}
	deadline := time.After(time.Minute)
	for err != nil {
		select {
		case <-deadline:
			t.Fatalf("the queue is not made again: %v", err)
		case <-time.After(20 * time.Millisecond):
			err = b.Publish(t.Context(), 0, batchOf(self, 0, 2, 2))
		}
	}
	expect(t, subscribe(t, b), 2, 2)
}

func receiverOfDeletedQueue(t *testing.T, server *servers.RabbitMQ) {
	b := settings{}.open(t, server)
	publish(t, b, 1, 1)
	r := subscribe(t, b)
	expect(t, r, 1, 1)
	if _, err := channel(t, server).QueueDelete(b.queue(0), false, false, false); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := r.Receive(ctx, 1); err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "cancelled the consumer") {
		t.Errorf("the receiver of a queue that is gone: %v", err)
	}
	_ = r.Close()
	again := subscribe(t, b)
	publish(t, b, 2, 2)
	expect(t, again, 2, 2)
}

// secondDeath has one holder after the other die, each with all in its hands that it may hold.
func secondDeath(t *testing.T, server *servers.RabbitMQ) {
	first := settings{}.open(t, server)
	c := settings{Prefix: first.config.Prefix}
	publish(t, first, 1, 3*prefetch)
	for range 3 {
		holder, next := c.open(t, server), c.open(t, server)
		r := subscribe(t, holder)
		waiting := subscribe(t, next)
		expect(t, r, 1, prefetch)
		holder.drop()
		expect(t, waiting, 1, prefetch)
		next.drop()
	}
	last := subscribe(t, first)
	for from := uint64(1); from <= 3*prefetch; from += prefetch {
		got := expect(t, last, from, from+prefetch-1)
		if err := last.Ack(t.Context(), got[prefetch-1]); err != nil {
			t.Fatal(err)
		}
	}
}

func understandable(t *testing.T, server *servers.RabbitMQ) {
	b := settings{}.open(t, server)
	if err := b.Publish(t.Context(), 0, batchOf(self, 0, 5, 7)); err != nil {
		t.Fatal(err)
	}
	deliveries, err := channel(t, server).Consume(b.queue(0), "", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := <-deliveries
	want := amqp.Table{
		"Drainmark-Producer": self.String(), "Drainmark-Partition": int64(0), "Drainmark-First": int64(5),
		"Drainmark-Last": int64(7), "Drainmark-Records": int64(3),
	}
	for name, value := range want {
		if d.Headers[name] != value {
			t.Errorf("the header %s is %v, not %v", name, d.Headers[name], value)
		}
	}
	if d.DeliveryMode != amqp.Persistent || d.ContentType != "application/vnd.drainmark.batch" || d.AppId != "drainmark" {
		t.Errorf("the message's properties are %d, %q, %q", d.DeliveryMode, d.ContentType, d.AppId)
	}
	if got := server.Eval("rabbit_networking:connection_info_all([client_properties])"); !strings.Contains(got, "drainmark publishing (") {
		t.Errorf("the list of connections does not say what ours are for:\n%s", got)
	}
	kind := fmt.Sprintf(`{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"%s">>)), amqqueue:get_type(Q)`, b.queue(0))
	if got := server.Eval(kind); !strings.Contains(got, "rabbit_quorum_queue") {
		t.Errorf("the queue is not the quorum queue that people look for:\n%s", got)
	}
}

func wrongPassword(t *testing.T, server *servers.RabbitMQ) {
	const secret = "an-0ther-s3cret"
	address := net.JoinHostPort(servers.Host, fmt.Sprint(server.Port))
	var log bytes.Buffer
	for url, misconfigured := range map[string]bool{
		"amqp://guestbook:" + secret + "@" + address + "/":                                     true, // wrong password
		"amqp://" + server.User + ":" + server.Password + "@" + address + "/no-such-" + secret: true, // wrong vhost: not secret, but see below
		"amqp://guestbook:" + secret + "@" + address + "/%zz":                                  true,
		"amqp://guestbook:" + secret + "%zz@" + address + "/":                                  true,
		"amqp://guestbook:" + secret + "@" + servers.Host + ":notaport/":                       true,
		"amqp://guestbook:" + secret + "@" + address + "/?heartbeat=0":                         true,
		"amqps://guestbook:" + secret + "@" + address + "/?cacertfile=/nowhere/ca.pem":         true,
		"http://guestbook:" + secret + "@" + address + "/":                                     true,
		"amqp://guestbook:" + secret + "@,/":                                                   true,
		fmt.Sprintf("amqp://guestbook:%s@%s:%d/", secret, servers.Host, servers.Port(t)):       false, // nobody listens
		fmt.Sprintf("amqps://guestbook:%s@%s/", secret, address):                               true,  // no TLS there
		fmt.Sprintf("amqp://guestbook:%s@%s/?heartbeats=%s", secret, address, secret):          true,  // no such parameter
	} {
		c := Config{URL: url, Partitions: 1, Timeout: answerTime, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		if !misconfigured { // it is waited for as long
			c.Timeout = time.Second
		}
		b, err := Open(t.Context(), c)
		if err == nil {
			err = b.Ping(t.Context())
			_ = b.Close()
		}
		if errors.Is(err, broker.ErrMisconfigured) != misconfigured || err == nil {
			t.Errorf("%s: %v", url, err)
		}
		said := strings.ReplaceAll(log.String()+fmt.Sprint(err), "no-such-"+secret, "")
		if strings.Contains(said, secret) || strings.Contains(said, server.Password) {
			t.Errorf("%s: the password is shown: %s", url, said)
		}
		log.Reset()
	}
}

func severalHosts(t *testing.T, server *servers.RabbitMQ) {
	u := fmt.Sprintf("amqp://%s:%s@%s:%d,%s:%d,%s:%d/", server.User, url.QueryEscape(server.Password),
		servers.Host, servers.Port(t), servers.Host, server.Port, servers.Host, servers.Port(t))
	publish(t, settings{URL: u}.open(t, server), 1, 1)
}

func pausedServer(t *testing.T, server *servers.RabbitMQ) {
	b := settings{}.open(t, server)
	publish(t, b, 1, 1)
	r := subscribe(t, b)
	expect(t, r, 1, 1)
	server.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	ended := make(chan error, 4)
	go func() { ended <- b.Publish(ctx, 0, batchOf(self, 0, 2, 2)) }()
	go func() { _, err := b.Backlog(ctx, 0, drainmark.Progress{}); ended <- err }()
	go func() { _, err := r.Receive(ctx, 1); ended <- err }()
	go func() { ended <- b.Ping(ctx) }()
	for range cap(ended) {
		select {
		case err := <-ended:
			if err == nil {
				t.Error("a call to a server that does not answer returned nil")
			}
		case <-time.After(time.Minute):
			t.Fatal("a call does not return")
		}
	}
	server.Continue()
	deadline := time.After(time.Minute)
	for err := errors.New("not tried"); err != nil; {
		attempt, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		err = b.Publish(attempt, 0, batchOf(self, 0, 2, 2))
		cancel()
		select {
		case <-deadline:
			t.Fatalf("it does not come back: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	_ = r.Close()
	again := subscribe(t, b)
	if got := expect(t, again, 1, 2); len(got) < 2 {
		t.Errorf("after the pause %d batches came", len(got))
	}
}

func alarm(t *testing.T, server *servers.RabbitMQ) {
	b := settings{}.open(t, server)
	publish(t, b, 1, 2)
	r := subscribe(t, b)
	got := expect(t, r, 1, 2)
	watermark := func(limit string) {
		server.Eval(`vm_memory_monitor:set_vm_memory_high_watermark({absolute, "` + limit + `"})`)
	}
	watermark("1MB")
	awaitRefusal(t, b, "short of memory", broker.ErrFull)
	if err := b.Ping(t.Context()); !errors.Is(err, broker.ErrFull) || errors.Is(err, broker.ErrDiskFull) {
		t.Errorf("Ping of a RabbitMQ that blocks publishers: %v", err)
	}
	if backlog, err := b.Backlog(t.Context(), 0, drainmark.Progress{}); err != nil || backlog.Ready != nil {
		t.Errorf("the backlog while publishers are blocked: %+v, %v", backlog, err)
	}
	if err := r.Ack(t.Context(), got[1]); err != nil {
		t.Errorf("Ack while publishers are blocked: %v", err)
	}
	watermark("2GB")
	awaitWell(t, b)
	server.Eval(`rabbit_disk_monitor:set_disk_free_limit("900000GB")`)
	awaitRefusal(t, b, "short of disk", broker.ErrDiskFull)
	server.Eval(`rabbit_disk_monitor:set_disk_free_limit("1MB")`)
	awaitWell(t, b)
}

// awaitRefusal publishes until that is refused in this way: RabbitMQ says that it takes nothing when somebody publishes.
func awaitRefusal(t *testing.T, b *Broker, why string, want error) {
	t.Helper()
	deadline := time.After(60 * time.Second)
	for err := error(nil); !errors.Is(err, want); {
		attempt, cancel := context.WithTimeout(t.Context(), time.Second)
		err = b.Publish(attempt, 0, batchOf(self, 0, 3, 3))
		cancel()
		select {
		case <-deadline:
			t.Fatalf("RabbitMQ is %s, and publishing gives: %v", why, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// awaitWell waits until a ping says that all is well.
func awaitWell(t *testing.T, b *Broker) {
	t.Helper()
	deadline := time.After(60 * time.Second)
	for err := b.Ping(t.Context()); err != nil; err = b.Ping(t.Context()) {
		select {
		case <-deadline:
			t.Fatalf("it has room again: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// secured is a server with TLS, and its certificate's signer.
type secured struct {
	*servers.RabbitMQ
	ca *servers.Authority
}

// amqps: with a CA and client certificates, as RabbitMQ's URL parameters have them.
func (server secured) amqps(t *testing.T) {
	ca, other := server.ca, servers.NewAuthority(t)
	clientCertificate, clientKey := ca.Issue("client")
	query := "?cacertfile=" + ca.Path + "&certfile=" + clientCertificate + "&keyfile=" + clientKey
	b := settings{URL: server.TLSURL() + query}.open(t, server.RabbitMQ)
	publish(t, b, 1, 1)
	expect(t, subscribe(t, b), 1, 1)
	for name, query := range map[string]string{
		"no CA that knows the server": "?certfile=" + clientCertificate + "&keyfile=" + clientKey + "&cacertfile=" + other.Path,
		"no client certificate":       "?cacertfile=" + ca.Path,
	} {
		b, err := Open(t.Context(), Config{URL: server.TLSURL() + query, Partitions: 1, Timeout: 2 * time.Second})
		if err == nil {
			err = b.Ping(t.Context())
			_ = b.Close()
		}
		if err == nil {
			t.Errorf("with %s it connects", name)
		}
	}
}

// external: the client's certificate is the login, and there is no password.
func (server secured) external(t *testing.T) {
	for _, arguments := range [][]string{
		{"add_user", "certified", "unused"}, {"clear_password", "certified"}, {"set_permissions", "certified", ".*", ".*", ".*"},
	} {
		server.Control(arguments...)
	}
	at := func(name string) string {
		certificate, key := server.ca.Issue(name)
		return fmt.Sprintf("amqps://%s:%d/?auth_mechanism=external&cacertfile=%s&certfile=%s&keyfile=%s",
			servers.Host, server.TLSPort, server.ca.Path, certificate, key)
	}
	b := settings{URL: at("certified")}.open(t, server.RabbitMQ)
	publish(t, b, 1, 1)
	expect(t, subscribe(t, b), 1, 1)
	nobody, err := Open(t.Context(), Config{URL: at("nobody"), Partitions: 1, Timeout: answerTime})
	if err == nil {
		err = nobody.Ping(t.Context())
		_ = nobody.Close()
	}
	if !errors.Is(err, broker.ErrMisconfigured) {
		t.Errorf("a certificate of no user: %v", err)
	}
}

// otherHost: a node that hangs would be connected to again. Both names are of one server. Each broker would take the same one
// again by chance once in two times.
func otherHost(t *testing.T, server *servers.RabbitMQ) {
	url := strings.Replace(server.URL(), servers.Host, servers.Host+fmt.Sprintf(":%d,localhost", server.Port), 1)
	for range 8 {
		b := settings{URL: url}.open(t, server)
		before, err := b.publishing.await(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		before.cut()
		var after *session
		eventually(t, "another connection", func() (err error) {
			if after, err = b.publishing.get(); after == before {
				err = errors.New("it has not been seen to end")
			}
			return err
		})
		if after.host == before.host {
			t.Fatalf("behind the end of a connection to %s came another one to it", before.host)
		}
	}
}
