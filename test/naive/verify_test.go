package naive

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/drainmark/drainmark/verify"
	"github.com/drainmark/drainmark/verify/check"
	"github.com/drainmark/drainmark/verify/fault"
)

// verified lets verify judge the naive design, while one of its two consumers is killed.
func verified(t *testing.T, s *stack) {
	for _, ack := range []Ack{AutoAck, ManualAck} {
		name := "verify-" + string(ack)
		n := s.start(t, name, ack, Backend)
		var pids []int
		for range 2 {
			process, line := s.run(t, "--role", "consumer", "--ack", string(ack), "--queue", name)
			if line != "consuming\n" {
				t.Fatalf("a consumer says %q", line)
			}
			pids = append(pids, process.Process.Pid)
		}
		result, err := verify.Run(t.Context(), verify.Config{
			URLs: []string{n.url}, Log: name, Workload: verify.Appends, Messages: 200, Rate: 100, Concurrency: 4, // some two seconds
			Timeout: time.Minute, Faults: fault.Plan{Faults: []fault.Fault{{
				Name: "kill-consumer", At: time.Second, Run: fmt.Sprintf("kill -9 %d", pids[0]),
			}}},
		})
		var out bytes.Buffer
		_ = verify.Print(result, &out)
		t.Logf("%s acknowledgement: %v\n%s", ack, err, out.String())
		// Luck decides which promise breaks first: a clear that overtakes a message ends the run at once.
		if result.Verdict != check.Broken {
			t.Errorf("%s acknowledgement: the verdict is %s", ack, result.Verdict)
		}
	}
}
