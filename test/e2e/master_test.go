package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/drainmark/drainmark/verify"
	"github.com/drainmark/drainmark/verify/check"
	"github.com/drainmark/drainmark/verify/fault"
	"github.com/drainmark/drainmark/verify/history"
)

// TestTheMasterIsDead: for half a minute there is no database to write to. No append is refused, which verify checks.
// Reads go on from the replicas. When the master is back everything is persisted, once. It is not run in parallel with
// others: besides them, something may not be answered in time because the machine is busy.
func TestTheMasterIsDead(t *testing.T) {
	s := startStack(t, 2)
	o := newTopology(t)
	o.addStack(s)
	o.deploy(s.setup(2, 2))
	dir := filepath.Join(t.TempDir(), "run")
	r := o.verify(verify.Config{Duration: 30 * time.Second, Rate: 100, Dir: dir, Faults: fault.Plan{Settle: patience, Faults: []fault.Fault{{
		Name: "no-master", At: 5 * time.Second, For: 15 * time.Second, Writes: true,
		Run: inTopology("kill -9 $(cat redis-master.pid)"), Heal: inTopology("./start redis-master"),
	}}}})
	held(t, r, 1000)
	for _, p := range r.Promises {
		if p.Promise == "P7" && p.State != check.PromiseHeld {
			t.Errorf("P7 is %s: %s", p.State, p.Checked)
		}
	}
	if n := r.Windows[1].Appends.Done; n < 500 {
		t.Errorf("P7: only %d appends were accepted while the master was dead", n)
	}
	readsGoOn(t, dir)
}

// readsGoOn checks in a run's history that, while its fault was in force, every read was answered that did not ask for a
// state that has something.
func readsGoOn(t *testing.T, dir string) {
	t.Helper()
	file, err := os.Open(filepath.Join(dir, verify.HistoryFile))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	h, err := history.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	from, until, reads := h.Faults[0].End, h.Faults[1].Start, 0
	for i := range h.Reads {
		r := &h.Reads[i]
		if r.Tail || r.Holds != "" || r.Carries || r.Final != 0 || r.Start < from || r.End > until {
			continue
		}
		if reads++; r.Outcome != history.Done {
			t.Errorf("P7: a read failed while the master was dead: %s", r.Error)
		}
	}
	if reads < 100 {
		t.Errorf("P7: there were only %d reads while the master was dead", reads)
	}
}
