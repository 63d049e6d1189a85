package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/drainmark/drainmark"
	"github.com/drainmark/drainmark/test/servers"
	amqp "github.com/rabbitmq/amqp091-go"
)

// TestTheBacklogAndTheQueueLength is why there is a Drainmark. 1,000 messages are appended with no consumer. Then one
// consumer starts, while the database stumbles. The backlog falls to 0 and is never less than what is missing, and the
// barrier is reached with the last message. The length of the broker's queue, asked for at the same moments, is wrong.
func TestTheBacklogAndTheQueueLength(t *testing.T) {
	t.Parallel()
	s := startStack(t, 1)
	o := s.setup(1, 1)
	o.consumerFlags = []string{"--commit-records", "1"}
	d := deploy(t, o)
	d.consumers[0].stop()
	appendThousand(t, d)
	if b := readBacklog(t, d); b.Pending.Records < thousand || b.Pending.Records > thousand+ownMarkers {
		t.Errorf("with no consumer the backlog is %+v", b)
	}
	barrier, err := ask(t.Context(), d.http, http.MethodPost, d.url+"/v1/barriers", 0)
	if err != nil || barrier.State != "pending" && barrier.State != "stalled" {
		t.Fatalf("with no consumer the barrier says %+v, %v", barrier, err)
	}
	w := &drainWatch{t: t, d: d, master: s.master, queues: declarer(t, s.broker), pending: thousand + 64, barrier: barrier.Receipt}
	d.consumers[0].start()
	await(t, "the barrier is reached", patience, w.look)
	t.Logf("looked %d times; the queue's length was too low %d times, and 0 %d times while up to %d messages were missing",
		w.looks, w.tooLow, w.zero, w.missingAtZero)
	if w.looks < 10 || w.tooLow == 0 {
		t.Error("the queue's length was never wrong: this proves nothing")
	}
	await(t, "the backlog is 0", patience, func() bool { return readBacklog(t, d).Pending.Records == 0 })
}

const thousand = 1000

// ownMarkers is how many markers the backend may send at any time to find out whether everything is persisted: one to
// each partition.
const ownMarkers = 4

// backlog is what the API says about it.
type backlog struct {
	Pending struct {
		Records int  `json:"records"`
		Exact   bool `json:"exact"`
	} `json:"pending"`
}

func readBacklog(t *testing.T, d *deployment) (b backlog) {
	t.Helper()
	a, err := send(t.Context(), d.http, request{method: http.MethodGet, url: d.url + "/v1/backlog"})
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("%d %s", a.status, a.body)
	}
	if err == nil {
		err = json.Unmarshal(a.body, &b)
	}
	if err != nil {
		t.Fatalf("reading the backlog: %v", err)
	}
	return b
}

// appendThousand appends 1,000 messages, to a log of each partition, one after the other in each: so every message is a
// broker message of its own, and the length of the queue would be a number of messages.
func appendThousand(t *testing.T, d *deployment) {
	t.Helper()
	logs := map[int]string{}
	for i := 0; len(logs) < 4; i++ {
		log := fmt.Sprint("log-", i)
		logs[drainmark.PartitionOf(log, 4)] = log
	}
	var writers sync.WaitGroup
	for _, log := range logs {
		writers.Go(func() {
			for i := range thousand / len(logs) {
				a, err := send(t.Context(), d.http, request{method: http.MethodPost, url: messagesURL(d.url, log), body: fmt.Append(nil, i)})
				if err != nil || a.status != http.StatusAccepted {
					t.Errorf("appending: %d %s %v", a.status, a.body, err)
					return
				}
			}
		})
	}
	writers.Wait()
}

// declarer returns what asks RabbitMQ for the length of all queues, as people do.
func declarer(t *testing.T, r *servers.RabbitMQ) func() int {
	channel, err := r.Dial().Channel()
	if err != nil {
		t.Fatal(err)
	}
	return func() (length int) {
		for p := range 4 {
			// A passive declaration does not check the queue's arguments.
			q, err := channel.QueueDeclarePassive(fmt.Sprint("drainmark.p", p), true, false, false, false, amqp.Table{})
			if err != nil {
				t.Fatalf("declaring a queue passively: %v", err)
			}
			length += q.Messages
		}
		return length
	}
}

// drainWatch watches how a backlog is drained.
type drainWatch struct {
	t       *testing.T
	d       *deployment
	master  *servers.Redis
	queues  func() int
	barrier string
	pending int // the backlog at the last look

	looks, tooLow, zero, missingAtZero int
	pauses                             int
	goOn                               *time.Timer // lets the master go on
}

// look looks once, and says whether the barrier is reached. It reads what is missing last, so that no more was missing
// at any moment before.
func (w *drainWatch) look() bool {
	w.t.Helper()
	reached, err := ask(w.t.Context(), w.d.http, http.MethodPost, w.d.url+"/v1/barriers?receipt="+w.barrier, 0)
	if err != nil {
		w.t.Fatalf("asking for the barrier: %v", err)
	}
	b := readBacklog(w.t, w.d)
	length := w.queues()
	missing := thousand - w.persisted()
	w.looks++
	if reached.State == "reached" && missing > 0 {
		w.t.Errorf("the barrier is reached, and then %d messages are missing", missing)
	}
	if b.Pending.Records < missing {
		w.t.Errorf("the backlog is said to be %d, and then %d messages are missing", b.Pending.Records, missing)
	}
	if b.Pending.Records > w.pending+ownMarkers {
		w.t.Errorf("the backlog rises from %d to %d", w.pending, b.Pending.Records)
	}
	w.pending = b.Pending.Records
	if length < missing {
		w.tooLow++
	}
	if length == 0 && missing > 0 {
		w.zero++
		w.missingAtZero = max(w.missingAtZero, missing)
	}
	w.stumble(missing)
	return reached.State == "reached"
}

// persisted counts what is in the database, as the replica shows it.
func (w *drainWatch) persisted() (n int) {
	w.t.Helper()
	var list struct {
		Logs []struct{ Count int } `json:"logs"`
	}
	a, err := send(w.t.Context(), w.d.http, request{method: http.MethodGet, url: w.d.url + "/v1/logs"})
	if err == nil {
		err = json.Unmarshal(a.body, &list)
	}
	if err != nil {
		w.t.Fatalf("reading the list of logs: %d %s %v", a.status, a.body, err)
	}
	for _, l := range list.Logs {
		n += l.Count
	}
	return n
}

// stumble lets the database stand still for half a second, three times, while it is being written to.
func (w *drainWatch) stumble(missing int) {
	const times, lasts = 3, 500 * time.Millisecond
	if w.goOn != nil {
		select {
		case <-w.goOn.C:
			w.master.Continue()
			w.goOn = nil
		default:
		}
	} else if missing < thousand-w.pauses*thousand/10 && missing > 0 && w.pauses < times {
		w.master.Pause()
		w.pauses++
		w.goOn = time.NewTimer(lasts)
	}
}
