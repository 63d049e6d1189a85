// Package fault does faults to a running deployment, by a plan, and heals them. A fault is a pair of shell commands, so
// whatever can be done from a shell can be a fault: kill, kubectl delete pod, docker pause, iptables.
//
// A fault that did not happen proves nothing, so the package is strict about that. A command that fails, a check that
// does not notice the fault, a fault whose time never came, a deployment that is not healthy before, between and after:
// each is an error of the run.
//
// parse.go reads plans, runner.go plays them, inject.go does one fault and heals it, command.go runs one command, and
// ready.go has the plans that come with the program.
package fault

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
)

// Limits of a plan.
const (
	MaxText     = 64 << 10           // bytes of one fault as text
	MaxPlanText = 1 << 20            // bytes of a plan as text
	MaxFaults   = 256                // faults of a plan
	MaxTime     = 7 * 24 * time.Hour // any time in a plan
	MaxJitter   = 90                 // percent
)

// DefaultWithin is how long a check may take to notice its fault.
const DefaultWithin = 10 * time.Second

// Fault is one kind of fault: what to do, when, and how to undo it.
type Fault struct {
	Name string // [a-z0-9-]+, unique in its plan
	Run  string // the command that does it
	// Heal is the command that undoes it, after For. Empty if there is nothing to undo.
	Heal string
	// Check is a command that succeeds before the fault and fails while it is in force: the proof that it happened. Empty
	// for none: then the proof is that Run succeeded.
	Check  string
	Within time.Duration // how long Check may take to fail, 0 for DefaultWithin
	Every  time.Duration // from one time to the next, 0 for a fault that is done once, at At
	At     time.Duration // after the beginning
	For    time.Duration // how long it is in force, 0 for a fault that is over when Run is
	Writes bool          // appends must be accepted while it is in force (P7), which needs For
}

// Plan is a set of faults and how they are played. Only Faults must be set.
type Plan struct {
	Faults  []Fault
	Settle  time.Duration // how long the deployment may take to be healthy after a heal, 0 for Options.HealthTimeout
	Jitter  int           // by how many percent a period is longer or shorter, by the seed: 20 for 20% at most
	Overlap bool          // faults may be done while others are in force
}

// Join returns a plan that has the faults of all plans. Each of its settings is the largest that one of them has.
func Join(plans ...Plan) (all Plan) {
	for _, p := range plans {
		all.Faults = append(all.Faults, p.Faults...)
		all.Settle, all.Jitter = max(all.Settle, p.Settle), max(all.Jitter, p.Jitter)
		all.Overlap = all.Overlap || p.Overlap
	}
	return all
}

var validName = regexp.MustCompile(`^[a-z0-9-]+$`)

// Check says what is wrong with a plan, if anything is. The error names the fault, the field and the value.
func (p Plan) Check() error {
	if len(p.Faults) == 0 || len(p.Faults) > MaxFaults {
		return fmt.Errorf("a plan of %d faults: it must have from 1 to %d", len(p.Faults), MaxFaults)
	}
	if err := checkTime("settle", p.Settle); err != nil {
		return err
	}
	if err := checkPercent("jitter", p.Jitter); err != nil {
		return err
	}
	known := make(map[string]bool, len(p.Faults))
	for _, f := range p.Faults {
		if err := f.check(); err != nil {
			return err
		}
		if known[f.Name] {
			return errTwice(f)
		}
		known[f.Name] = true
	}
	if n := len(p.String()); n > MaxPlanText {
		return fmt.Errorf("a plan of %d bytes as text: it can have %d", n, MaxPlanText)
	}
	return nil
}

// check says what is wrong with the fault.
func (f Fault) check() error {
	if err := f.checkFields(); err != nil {
		return fmt.Errorf("%s: %w", f.title(), err)
	}
	return nil
}

func (f Fault) checkFields() error {
	switch {
	case !validName.MatchString(f.Name):
		return fmt.Errorf("name = %s: a name is required, of a-z, 0-9 and -", shown(f.Name))
	case f.Run == "":
		return errors.New("run: a command is required")
	case f.Every > 0 && f.At > 0:
		return fmt.Errorf("at = %v: a fault with every = %v cannot have it", f.At, f.Every)
	case f.Heal != "" && f.For == 0:
		return fmt.Errorf("heal = %s: it needs \"for\", which says when to heal", shown(f.Heal))
	case f.Writes && f.For == 0:
		return errors.New("writes = true: it needs \"for\", the time in which appends must be accepted: " +
			"without it there is none to judge")
	case f.Check == "" && f.Within != 0:
		return fmt.Errorf("within = %v: it is the time of a \"check\", which is missing", f.Within)
	}
	for _, v := range []struct{ name, value string }{{"run", f.Run}, {"check", f.Check}, {"heal", f.Heal}} {
		if strings.ContainsFunc(v.value, unprintable) {
			return fmt.Errorf("%s = %s: it cannot have control characters", v.name, shown(v.value))
		}
	}
	err := cmp.Or(checkTime("every", f.Every), checkTime("at", f.At), checkTime("for", f.For),
		checkTime("within", f.Within))
	if n := len(marshal(f.text())); err == nil && n > MaxText {
		err = fmt.Errorf("%d bytes as text: it can have %d", n, MaxText)
	}
	return err
}

// unprintable says whether a command cannot have the character, because nobody would see its effect.
func unprintable(r rune) bool { return unicode.IsControl(r) && r != '\t' && r != '\n' }

func checkTime(name string, d time.Duration) error {
	if d < 0 || d > MaxTime {
		return fmt.Errorf("%s = %v: it must be from 0s to %v", name, d, MaxTime)
	}
	return nil
}

func checkPercent(name string, n int) error {
	if n < 0 || n > MaxJitter {
		return fmt.Errorf("%s = %d%%: it must be from 0%% to %d%%", name, n, MaxJitter)
	}
	return nil
}

func errTwice(f Fault) error {
	return fmt.Errorf("fault %s: name = %q: another fault of the plan has this name", f.Name, f.Name)
}

// title names the fault in errors.
func (f Fault) title() string {
	if f.Name == "" {
		return "a fault without a name"
	}
	return "fault " + f.Name
}
