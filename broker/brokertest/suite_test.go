package brokertest

import (
	"slices"
	"strings"
	"testing"

	"github.com/drainmark/drainmark/broker/memory"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fault is an adapter that is wrong on purpose.
type fault struct {
	name  string
	fails string // the name of the case that must find it
	make  func() *adapter
}

func faults() []fault {
	return slices.Concat(publishFaults, receiveFaults, closeFaults, acknowledgeFaults, replayFaults, keepsFaults, crashFaults, backlogFaults, flagFaults, traitFaults)
}

func TestTheRightAdapterPassesEveryCase(t *testing.T) {
	for name, options := range map[string]memory.Options{
		"replaying": {Replays: true}, "forgetting, ordered": {Ordered: true}, "forgetting, without order": {},
		"forgetting, and not counting": {Ordered: true, Uncounted: true},
	} {
		t.Run(name, func(t *testing.T) {
			h := harness(func() *adapter { return &adapter{Options: options} })
			h.Patience = usualPatience
			Run(t, h)
		})
	}
}

func TestEveryWrongAdapterFailsItsCase(t *testing.T) {
	byName := map[string]testCase{}
	for _, tc := range append(cases(), fullCase) {
		byName[tc.name] = tc
	}
	var parallel []fault
	for _, f := range faults() {
		tc, ok := byName[f.fails]
		switch {
		case !ok:
			t.Errorf("an adapter that %s: there is no case %q", f.name, f.fails)
		case tc.alone:
			t.Run(f.name, func(t *testing.T) { f.mustFail(t, tc) })
		default:
			parallel = append(parallel, f)
		}
	}
	for _, f := range parallel {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			f.mustFail(t, byName[f.fails])
		})
	}
}

func (f fault) mustFail(t *testing.T, tc testCase) {
	h := harness(f.make)
	failures := record(t.Context(), func(t T) {
		server := h.Start(t)
		if tc.needs != nil && !tc.needs(server, newC(t, h, server).connect().Traits()) {
			panic("the case is not even run on this adapter")
		}
		tc.start(t, h)
	}).failures
	if len(failures) == 0 {
		t.Fatalf("an adapter that %s passes the case %q", f.name, tc.name)
	}
	for _, failure := range failures {
		if strings.HasPrefix(failure, "panic: ") {
			t.Errorf("the case broke instead of failing: %s", failure)
		}
	}
	t.Logf("%s: %s", tc.name, failures[0])
}

func TestEveryCaseFindsAFault(t *testing.T) {
	finds := map[string]bool{}
	for _, f := range faults() {
		finds[f.fails] = true
	}
	for _, tc := range append(cases(), fullCase) {
		if !finds[tc.name] {
			t.Errorf("no wrong adapter is known that fails the case %q", tc.name)
		}
	}
}
