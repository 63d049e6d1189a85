package servers

import (
	"fmt"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
	if err := r.answers(t.Context()); err != nil {
		t.Fatalf("after a pause: %v", err)
	}
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
