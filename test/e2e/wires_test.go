package e2e

import (
	"fmt"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/drainmark/drainmark/test/servers"
)

// wire is a way to a server, which can be disturbed, and asked whether anything comes through.
type wire struct {
	ways  []*proxy // to each of its servers
	hello string   // what has a server say something
}

// Requests that have a server say something. NATS does so by itself.
var hellos = map[string]string{"nats": "", "amqp": "AMQP\x00\x00\x09\x01", "redis": "PING\r\n", "postgres": "\x00\x00\x00\x08\x04\xd2\x16\x2f",
	"amqp10": "AMQP\x03\x01\x00\x00", "kafka": "\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x01\xff\xff"}

// answerWithin is how long a server may take to say something to somebody who asks on a wire.
const answerWithin = 2 * time.Second

// do changes the wire: frozen forwards nothing and closes nothing, cut closes everything and lets nobody in, and open
// works. Without a change it says whether the server answers through it. The answer is that of a topology.
func (w wire) do(change string) string {
	switch change {
	case "":
		return w.ask()
	case "open":
		w.set(false, false)
	case "frozen":
		w.set(false, true)
	case "cut":
		w.set(true, false)
	default:
		return fmt.Sprintf("a wire can be open, frozen or cut, and not %s", change)
	}
	return "ok"
}

func (w wire) set(cut, stuck bool) {
	for _, p := range w.ways {
		p.set(cut, stuck)
	}
}

// ask says whether a server answers through the wire.
func (w wire) ask() (answer string) {
	for _, p := range w.ways {
		if answer = w.askThrough(p); answer == "ok" {
			break
		}
	}
	return answer
}

func (w wire) askThrough(p *proxy) string {
	c, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", servers.Host, p.port()), answerWithin)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(answerWithin))
	if _, err := c.Write([]byte(w.hello)); err != nil {
		return err.Error()
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		return err.Error()
	}
	return "ok"
}

// wireTo puts a wire before a broker's URL for one program, and returns the URL that leads through it.
func (o *topology) wireTo(broker, program string) string {
	o.t.Helper()
	if door, ok := o.doors[program]; ok {
		return door
	}
	u, err := url.Parse(broker)
	if err != nil {
		o.t.Fatal(err)
	}
	p := startProxy(o.t, u.Host)
	o.wires["broker-of-"+program] = wire{[]*proxy{p}, hellos[u.Scheme]}
	u.Host = fmt.Sprintf("%s:%d", servers.Host, p.port())
	return u.String()
}

// wireBefore returns what starts a wire before a server, or adds a way to the wire if it has one. Everybody meets the
// server through it.
func (o *topology) wireBefore(name, scheme string) func(address string) (port int) {
	return func(address string) int {
		p := startProxy(o.t, address)
		o.wires[name] = wire{append(o.wires[name].ways, p), hellos[scheme]}
		return p.port()
	}
}

// clockNow says by how much the running program's clock is wrong, by its own word.
func (p *program) clockNow() string {
	if p.clock == "" {
		return "0s"
	}
	return p.find(`wall clock is wrong on purpose".* by=(\S+)`)
}

// A topology's wires and clocks can be disturbed, and be mended again.
func TestTopology(t *testing.T) {
	t.Parallel()
	o := newTopology(t)
	broker := servers.StartNATS(t, servers.NATSOptions{})
	o.addServer("broker", broker.Process)
	redis := servers.StartRedis(t, servers.RedisOptions{Through: o.wireBefore("redis-master", "redis")})
	through := o.wireTo(broker.URL(), "consumer-0")
	o.deploy(setup{
		broker: broker.URL(), store: redis.URL(), backends: 1, consumers: 1, clocks: true,
		brokerOf: func(program string) string {
			if program == "consumer-0" {
				return through
			}
			return broker.URL()
		},
	})
	says := func(command, want string) {
		t.Helper()
		if got := o.answer(command); got != want {
			t.Errorf("%s is answered with %q, not %q", command, got, want)
		}
	}
	for _, name := range []string{"broker-of-consumer-0", "redis-master"} {
		for _, change := range []string{"frozen", "cut"} {
			await(t, name+" answers", patience, func() bool { return o.answer("wire "+name) == "ok" }) // it is asked for two seconds only
			says("wire "+name+" "+change, "ok")
			if got := o.answer("wire " + name); got == "ok" {
				t.Errorf("%s is %s, and answers", name, change)
			}
			says("wire "+name+" open", "ok")
		}
	}
	receipt := o.appendTo(o.url, "guestbook", "one")
	o.readAll(o.url, "guestbook", receipt)
	says("clock consumer-0", "ok 0s")
	says("start consumer-0 -192h", "ok")
	says("clock consumer-0", "ok -192h0m0s")
	says("start consumer-0", "ok")
	says("clock consumer-0", "ok 0s")
	for _, nonsense := range []string{"start broker 5m", "clock broker", "wire broker open", "wire redis-master slow", ""} {
		if got := o.answer(nonsense); got == "ok" {
			t.Errorf("%q is answered with %q", nonsense, got)
		}
	}
}
