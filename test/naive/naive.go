// Package naive is how a queue in front of a database begins: what everybody builds first, and what most keep. It
// speaks the same HTTP API as Drainmark, over RabbitMQ and Redis, so that the same tests can say what it loses and how
// it lies. Nothing in it is wrong on purpose: each choice is a common one, and its cost is noted beside it.
//
// It is a server for tests. It has no part in Drainmark.
package naive

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/redis/go-redis/v9"
)

// Ack is when a message is acknowledged to RabbitMQ.
type Ack string

// The two ways. Neither limits the prefetch, which is unlimited unless somebody says otherwise.
const (
	AutoAck   Ack = "auto"   // when it is sent to the consumer: a crash loses all that the consumer holds
	ManualAck Ack = "manual" // when it is in the database: a crash between the two doubles it
)

// Role is what a Server does.
type Role string

// The roles.
const (
	All      Role = "all"
	Consumer Role = "consumer" // it only persists
	Backend  Role = "backend"  // it only answers HTTP
)

const (
	lockTime = 2 * time.Second       // more than a write takes (but a consumer paused for longer writes all the same)
	lockPoll = 10 * time.Millisecond // a lock that is waited for like this goes to a lucky waiter
)

// Config says what a Server uses. AMQP and Redis must be set.
type Config struct {
	AMQP    string // the broker's URL, amqp://…
	Redis   string // the master's URL, redis://…
	Replica string // the URL of the replica that pages are read from, the master's if empty
	Ack     Ack    // AutoAck if it is empty
	Role    Role   // All if it is empty
	Queue   string // the queue's name, "naive" if empty
}

// Server is the naive design: the backend, the consumer, or both. It may be used concurrently.
type Server struct {
	http.Handler    // without routes for a Consumer
	config          Config
	master, replica *redis.Client
	connection      *amqp.Connection
	channel         *amqp.Channel // one for everything: who publishes too fast stops the consumer too
	asking          sync.Mutex    // two questions at a time on one channel would take each other's answers
	lost            chan *amqp.Error
	stop            context.CancelFunc
	consumer        sync.WaitGroup
}

// New connects to the broker, for which it waits at most 30 seconds, and begins to consume. Close the Server in the
// end. Redis need not answer yet.
func New(c Config) (*Server, error) {
	c.Ack, c.Role, c.Replica = cmp.Or(c.Ack, AutoAck), cmp.Or(c.Role, All), cmp.Or(c.Replica, c.Redis)
	c.Queue = cmp.Or(c.Queue, "naive")
	if c.Ack != AutoAck && c.Ack != ManualAck || c.Role != All && c.Role != Consumer && c.Role != Backend {
		return nil, fmt.Errorf("there is no acknowledging %q, or no role %q", c.Ack, c.Role)
	}
	master, err := redis.ParseURL(c.Redis)
	replica, err2 := redis.ParseURL(c.Replica)
	_, err3 := amqp.ParseURI(c.AMQP)
	if errors.Join(err, err2, err3) != nil { // which would show the URL
		return nil, errors.New("the broker's URL must be amqp://…, and the databases' redis://…")
	}
	s := &Server{config: c, lost: make(chan *amqp.Error, 1)}
	if s.connection, err = amqp.Dial(c.AMQP); err != nil {
		return nil, fmt.Errorf("connecting to the broker: %w", err)
	}
	s.connection.NotifyClose(s.lost)
	s.master, s.replica = redis.NewClient(master), redis.NewClient(replica)
	ctx, stop := context.WithCancel(context.Background())
	s.Handler, s.stop = s.routes(), stop
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// open makes the queue and begins to consume.
func (s *Server) open(ctx context.Context) (err error) {
	// No confirms: messages that the broker had not stored when it died were answered with 202 all the same. And it is
	// a classic queue, on one disk. Since RabbitMQ 3.13 its messages are not synced.
	if s.channel, err = s.connection.Channel(); err != nil {
		return fmt.Errorf("opening a channel: %w", err)
	}
	if _, err = s.channel.QueueDeclare(s.config.Queue, true, false, false, false, nil); err != nil {
		return fmt.Errorf("declaring the queue: %w", err)
	}
	if s.config.Role == Backend {
		return nil
	}
	deliveries, err := s.channel.Consume(s.config.Queue, "", s.config.Ack == AutoAck, false, false, false, nil)
	if err != nil {
		return fmt.Errorf("consuming: %w", err)
	}
	s.consumer.Go(func() { s.consume(ctx, deliveries) })
	return nil
}

// Close ends everything at once. Messages that the consumer holds are lost, or come again, depending on how it
// acknowledges. So every deployment of a new version is a crash.
func (s *Server) Close() error {
	s.stop()
	err := s.connection.Close()
	if errors.Is(err, amqp.ErrClosed) {
		err = nil // by the broker
	}
	s.consumer.Wait()
	return errors.Join(err, s.master.Close(), s.replica.Close())
}

// Lost returns a channel that has something, or is closed, once the broker's connection has ended. It is not made
// again: the process's supervisor starts it again.
func (s *Server) Lost() <-chan *amqp.Error { return s.lost }

// consume persists one message after the other.
func (s *Server) consume(ctx context.Context, deliveries <-chan amqp.Delivery) {
	for d := range deliveries {
		err := s.persist(ctx, d)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			slog.Error("persisting a message", "log", d.Type, "error", err)
		}
		switch {
		case s.config.Ack == AutoAck:
			continue // what could not be persisted is gone
		case err != nil:
			err = d.Nack(false, true) // it comes again, behind those that this consumer holds already, for ever if need be
		default:
			err = d.Ack(false)
		}
		if err != nil { // the connection is gone: messages in the database come again, and are appended again
			slog.Error("acknowledging a message", "log", d.Type, "error", err)
		}
	}
}

// persist locks the log, reads the whole list, appends, writes the whole list, and unlocks. It gets slower with each
// message.
func (s *Server) persist(ctx context.Context, d amqp.Delivery) error {
	var m message
	if err := json.Unmarshal(d.Body, &m); err != nil {
		return fmt.Errorf("decoding the message: %w", err)
	}
	if err := s.lock(ctx, d.Type); err != nil {
		return fmt.Errorf("locking: %w", err)
	}
	list, err := s.load(ctx, s.master, d.Type) // if it fails, the log stays locked until the lock's time is over
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	m.PersistedAt = time.Now().UTC()
	text, err := json.Marshal(append(list, m)) // nothing says that it is there already
	if err != nil {
		return fmt.Errorf("encoding the list: %w", err)
	}
	// Nothing says that the lock is still ours: whatever somebody else has written meanwhile is overwritten.
	if err := s.master.Set(ctx, listKey(d.Type), text, 0).Err(); err != nil {
		return fmt.Errorf("writing the list: %w", err)
	}
	if err := s.master.Del(ctx, lockKey(d.Type)).Err(); err != nil { // also if it is somebody else's by now
		return fmt.Errorf("unlocking: %w", err)
	}
	return nil
}

func (s *Server) lock(ctx context.Context, log string) error {
	for {
		locked, err := s.master.SetNX(ctx, lockKey(log), 1, lockTime).Result()
		if err != nil || locked {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

// load reads a log's whole list, and returns redis.Nil for a log that nobody has written to.
func (s *Server) load(ctx context.Context, from *redis.Client, log string) (list []message, err error) {
	text, err := from.Get(ctx, listKey(log)).Bytes()
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the list: %w", err)
	}
	return list, nil
}

func listKey(log string) string { return "naive:log:" + log }
func lockKey(log string) string { return "naive:lock:" + log }
