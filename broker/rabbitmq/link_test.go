package rabbitmq

import (
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
)

// A RabbitMQ that is away for long does not fill the log.
func TestAttemptsThatFailMakeFewLines(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := &logged{}
	b, err := Open(t.Context(), Config{
		URL: "amqp://" + listener.Addr().String(), Partitions: 1, Timeout: time.Second,
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	const attempts = 12 // some of them are questions what answers there
	for range attempts {
		c, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(log.String(), "not connected to RabbitMQ"); n < 1 || n > attempts/4 {
		t.Errorf("%d lines of %d attempts: %s", n, attempts, log.String())
	}
}
