package client_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/backend"
	"github.com/drainmark/drainmark/backend/api"
	brokermemory "github.com/drainmark/drainmark/broker/memory"
	"github.com/drainmark/drainmark/client"
	"github.com/drainmark/drainmark/consumer"
	storememory "github.com/drainmark/drainmark/store/memory"
)

// partitions is how many partitions a deployment has.
const partitions = 2

// deployment is a whole deployment in this process: a consumer, and two backends, each with a replica of its own. Its
// store refuses messages that begin with "poison", until it is cured.
type deployment struct {
	urls     [2]string
	replicas [2]*storememory.Replica
	stop     []func()
	mu       sync.Mutex
	cured    bool
}

// startDeployment starts a deployment. The caller stops it.
func startDeployment() (*deployment, error) {
	d := &deployment{}
	db := storememory.NewDB()
	db.Refuse = d.refuse
	server := brokermemory.NewServer(brokermemory.Options{Partitions: partitions, Ordered: true})
	logger := slog.New(slog.DiscardHandler)
	deployed := drainmark.Deployment{ID: drainmark.DeploymentID{7}, Partitions: partitions}
	if _, err := db.Store().Init(context.Background(), deployed); err != nil {
		return nil, err
	}
	for i := range d.urls {
		d.replicas[i] = db.Replica()
		b, err := backend.New(backend.Config{Broker: server.Connect(), Reader: d.replicas[i].Reader(), Deployment: deployed, Logger: logger})
		if err != nil {
			d.Stop()
			return nil, err
		}
		d.run(b.Run)
		stopping, stopped := context.WithCancel(context.Background())
		handler, err := api.New(api.Config{Service: b, Logger: logger, Stopping: stopping})
		if err != nil {
			stopped()
			d.Stop()
			return nil, err
		}
		s := httptest.NewServer(handler)
		d.urls[i] = s.URL
		d.stop = append(d.stop, func() { stopped(); s.CloseClientConnections(); s.Close() })
	}
	c := consumer.New(consumer.Config{Broker: server.Connect(), Store: db.Store(), Owner: "consumer", Partitions: partitions, Logger: logger})
	d.run(c.Run)
	return d, nil
}

func (d *deployment) run(run func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { run(ctx) })
	d.stop = append(d.stop, func() { cancel(); running.Wait() })
}

// Stop stops everything, the last first.
func (d *deployment) Stop() {
	for i := len(d.stop) - 1; i >= 0; i-- {
		d.stop[i]()
	}
}

func (d *deployment) refuse(_ string, m *drainmark.Message) (reason string, refuse bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return "it is poison", !d.cured && strings.HasPrefix(string(m.Body), "poison")
}

func (d *deployment) cure() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cured = true
}

// start is for the examples: a deployment and a client for each of its backends.
func start() (here, there *client.Client, stop func()) {
	d, err := startDeployment()
	if err != nil {
		panic(fmt.Sprint("starting a deployment: ", err))
	}
	var clients [2]*client.Client
	for i := range clients {
		if clients[i], err = client.New(client.Config{URL: d.urls[i], Retry: client.DefaultRetry}); err != nil {
			panic(err)
		}
	}
	return clients[0], clients[1], func() { clients[0].Close(); clients[1].Close(); d.Stop() }
}
