package servers

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Two processes at the same time have no port in common, and one gives none twice before it has given all others.
func TestPortsAreOfOneProcessOnly(t *testing.T) {
	t.Parallel()
	var all []int
	for range 3 { // processes
		var b portBlock
		for range blockSize - 1 {
			port, err := b.next()
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, port)
		}
		t.Cleanup(func() { _ = b.held.Close() })
	}
	slices.Sort(all)
	if n := len(slices.Compact(all)); n != 3*(blockSize-1) || all[0] <= firstPort || all[len(all)-1] >= lastPort {
		t.Errorf("%d ports from %d to %d", n, all[0], all[len(all)-1])
	}
}

func TestRabbitMQ(t *testing.T) {
	for _, version := range []int{0, 4} {
		t.Run(fmt.Sprintf("version %d", version), func(t *testing.T) {
			t.Parallel()
			aRabbitMQ(t, version)
		})
	}
}

func aRabbitMQ(t *testing.T, version int) {
	r := StartRabbitMQ(t, RabbitMQOptions{Version: version})
	if major, _ := r.Version(); version != 0 && major != version {
		t.Errorf("it says that it is RabbitMQ %d", major)
	}
	for _, again := range []func(){r.Kill, r.Stop} {
		again()
		if r.answers(t.Context()) == nil {
			t.Fatal("it answers although it was ended")
		}
		r.Start()
	}
	r.Pause()
	r.Continue()
	r.Await()
}

func TestEvalManyAtOnce(t *testing.T) {
	t.Parallel()
	r := StartRabbitMQ(t, RabbitMQOptions{})
	var evaluations sync.WaitGroup
	for range 8 {
		evaluations.Go(func() {
			if got := r.Eval(`timer:sleep(100), 1 + 1`); got != `"2"` {
				t.Errorf("1 + 1 is %s", got)
			}
		})
	}
	evaluations.Wait()
}
