package rabbitmq

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/drainmark/drainmark/broker"
	"github.com/drainmark/drainmark/test/servers"
)

// peer answers every connection to an address of its own, and returns the address.
func peer(t *testing.T, answer func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", servers.Host+":0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			answer(c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-ended })
	return listener.Addr().String()
}

// hear reads so many bytes, or to the end.
func hear(c net.Conn, n int64) { _, _ = io.CopyN(io.Discard, c, n) }

// protocolHeader is what a client begins with: AMQP 0 0 9 1.
const protocolHeader = 8

// says answers what a client begins with, and hangs up.
func says(text string) func(net.Conn) {
	return func(c net.Conn) {
		hear(c, protocolHeader)
		_, _ = io.WriteString(c, text)
	}
}

// method is a frame with a method of the class connection.
func method(number uint16, arguments string) string {
	payload := string(binary.BigEndian.AppendUint16([]byte{0, 10}, number)) + arguments
	return "\x01\x00\x00" + string(binary.BigEndian.AppendUint32(nil, uint32(len(payload)))) + payload + "\xce"
}

// hearMethod reads a frame.
func hearMethod(c net.Conn) {
	var header [7]byte
	if _, err := io.ReadFull(c, header[:]); err == nil {
		hear(c, int64(binary.BigEndian.Uint32(header[3:]))+1)
	}
}

var (
	start = method(10, "\x00\x09\x00\x00\x00\x00\x00\x00\x00\x05PLAIN\x00\x00\x00\x05en_US")
	tune  = method(30, "\x00\x00\x00\x02\x00\x00\x00\x00")
)

// logsIn takes a login as far as before the vhost is opened.
func logsIn(c net.Conn) {
	says(start)(c)
	hearMethod(c) // start-ok
	_, _ = io.WriteString(c, tune)
	hearMethod(c) // tune-ok
	hearMethod(c) // open
}

func TestWhoAnswersInRabbitMQsPlace(t *testing.T) {
	t.Parallel()
	certificate, key := servers.NewAuthority(t).Issue("server")
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	handshake := func(c net.Conn) {
		_ = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}}).Handshake()
	}
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	const hangsAtLogin = "one that hangs at the login" // for longer than one that refuses a password
	for name, test := range map[string]struct {
		address string
		says    string // "" if it may pass, and is tried on
	}{
		"TLS, which says so":          {peer(t, says("\x15\x03\x03\x00\x02\x02\x46")), "this port speaks TLS: use amqps://"},
		"TLS, which hangs up":         {peer(t, handshake), "this port speaks TLS: use amqps://"},
		"HTTP":                        {web.Listener.Addr().String(), "this port speaks HTTP"},
		"another version of AMQP":     {peer(t, says("AMQP\x00\x01\x00\x00")), "another version of AMQP"},
		"something else":              {peer(t, says("SSH-2.0-OpenSSH_9.2\r\n")), "does not speak AMQP"},
		"a proxy without a server":    {peer(t, func(net.Conn) {}), ""},
		"nobody for a while":          {peer(t, func(c net.Conn) { hear(c, 1<<20) }), ""},
		"one that ends at the start":  {peer(t, says("\x01\x00\x00")), ""},
		"one that ends at the login":  {peer(t, func(c net.Conn) { says(start)(c); hearMethod(c) }), ""},
		hangsAtLogin:                  {peer(t, func(c net.Conn) { says(start)(c); hear(c, 1<<20) }), ""},
		"one that ends at the vhost":  {peer(t, logsIn), ""},
		"one that hangs at the vhost": {peer(t, func(c net.Conn) { logsIn(c); hear(c, 1<<20) }), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := Config{URL: "amqp://u:secret@" + test.address + "/", Partitions: 1, Timeout: 500 * time.Millisecond}
			if test.says != "" || name == hangsAtLogin {
				c.Timeout += silentClose
			}
			b, err := Open(t.Context(), c)
			if err == nil {
				err = b.attempted(test.says != "")
				_ = b.Close()
			}
			switch {
			case err == nil || strings.Contains(err.Error(), "secret"):
				t.Error(err)
			case errors.Is(err, broker.ErrMisconfigured) != (test.says != "") || !strings.Contains(err.Error(), test.says):
				t.Errorf("%v, not %q", err, test.says)
			}
		})
	}
}

// attempted returns how an attempt to connect has ended. One of which nothing could be told, because the answer took too long on
// a busy machine, counts only if nothing can.
func (b *Broker) attempted(canBeTold bool) (err error) {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		_, err = b.publishing.get()
		if !errors.Is(err, errConnecting) && (!canBeTold || errors.Is(err, broker.ErrMisconfigured)) {
			break
		}
	}
	return err
}

// Whatever characters user and password have, they are the ones that are logged in with, and nothing else changes.
func TestCredentialsGoIntoTheURL(t *testing.T) {
	t.Parallel()
	const user, password = "me@work", "a:b/c%d#e?f@"
	endpoints, err := parseURL("amqps://old:older@one,two:5/v%2Fw?heartbeat=7&auth_mechanism=plain")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range endpoints {
		was, err := amqp.ParseURI(e.dialURL(nil))
		if err != nil {
			t.Fatal(err)
		}
		was.Username, was.Password = user, password
		is, err := amqp.ParseURI(e.dialURL(func() (string, string) { return user, password }))
		if err != nil || !reflect.DeepEqual(is, was) {
			t.Errorf("%s: %+v, %v; want %+v", e.host, is, err, was)
		}
	}
}
