// Command naive runs the naive design as a process, so that a test can kill it. See package naive.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/drainmark/drainmark/test/naive"
)

func main() {
	var c naive.Config
	listen := flag.String("listen", "127.0.0.1:0", "where the API listens; what it is in the end is printed")
	flag.StringVar(&c.AMQP, "amqp", "", "the broker's `URL`")
	flag.StringVar(&c.Redis, "redis", "", "the master's `URL`")
	flag.StringVar(&c.Replica, "replica", "", "the `URL` of the replica that is read; the master's by default")
	flag.StringVar((*string)(&c.Ack), "ack", string(naive.AutoAck), "auto or manual")
	flag.StringVar((*string)(&c.Role), "role", string(naive.All), "all, consumer or backend")
	flag.StringVar(&c.Queue, "queue", "", "the queue's name; naive by default")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, c, *listen)
	stop()
	if err != nil {
		slog.Error("running", "error", err)
		os.Exit(1)
	}
}

// run ends with ctx, or with the broker's connection, which is an error.
func run(ctx context.Context, c naive.Config, listen string) (err error) {
	s, err := naive.New(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx },
	}
	served := make(chan error, 1)
	if c.Role == naive.Consumer {
		fmt.Println("consuming")
	} else {
		listener, err := net.Listen("tcp", listen)
		if err != nil {
			return fmt.Errorf("listening: %w", err)
		}
		fmt.Printf("listening on http://%s\n", listener.Addr())
		go func() { defer close(served); served <- server.Serve(listener) }()
		defer func() { _ = server.Close(); <-served }()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-served:
		return fmt.Errorf("serving: %w", err)
	case <-s.Lost():
		return errors.New("the broker's connection has ended")
	}
}
