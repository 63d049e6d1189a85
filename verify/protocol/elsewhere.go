package protocol

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Untestable is a statement that no case and no rule is about.
type Untestable struct{ Number, Title, Why string }

// How else a statement is tested, and the reasons that several have.
const (
	judged  = "judged by drainmark verify: "
	ofOwn   = "it is about the client"
	stop    = "somebody has to stop the server"
	full    = "the server has to be at a limit"
	granted = "it takes principals with different grants"
	freedom = "it leaves the server free"
	breaks  = "something behind the server has to break"
)

// Elsewhere are the statements that are not tested here.
var Elsewhere = []Untestable{
	{"M-8", "a receipt's states change as is said", "its states change when somebody stops and mends what persists"},
	{"H-1", "what is accepted is durable", judged + "P1"},
	{"H-2", "an accepted message is in its log once", judged + "P2"},
	{"H-3", "what was answered before stands before", judged + "P3"},
	{"H-4", "positions have no gaps, and are never moved", judged + "P4"},
	{"H-5", "a barrier speaks for everything before it", judged + "P5"},
	{"H-6", "reads with a receipt have its writes", judged + "P6"},
	{"H-7", "appends are accepted without the database", judged + "P7, with a fault"},
	{"H-8", "a database that comes back is filled up again", "somebody has to set the database back"},
	{"H-9", "what cannot be persisted is a dead letter", judged + "P9"},
	{"H-10", "every limit is a clear error", full},
	{"H-11", "a clear removes what was accepted before it", judged + "clear"},
	{"H-12", "calls behind barriers fit one order", judged + "linearizable"},
	{"H-13", "a removal removes what it says", judged + "removal"},
	{"G-13", "requests that may be repeated are repeated", ofOwn},
	{"G-14", "a request is answered within its time", breaks},
	{"A-13", "a part of many may be stored after a crash", breaks},
	{"K-7", "keys are known for 24 hours", "it takes a day"},
	{"K-8", "clients choose keys nobody guesses", ofOwn},
	{"R-7", "a receipt expires", "it takes days"},
	{"R-8", "stalled says that nothing moves", breaks},
	{"R-9", "places may not be found", freedom},
	{"R-10", "receipts of others are refused", "it takes two deployments"},
	{"S-10", "a page may be short", freedom},
	{"S-11", "pages without receipts may be old", freedom},
	{"E-7", "a silent stream has comments", "it takes 15 seconds"},
	{"E-8", "clients come back with Last-Event-ID", ofOwn},
	{"E-9", "a stream that cannot begin ends at once", full},
	{"B-7", "missing records keep a barrier back", breaks},
	{"D-6", "a retry that succeeds is persisted", breaks},
	{"D-7", "many are settled in parts", "it takes letters of several partitions"},
	{"F-6", "an unknown outcome has its receipt", breaks},
	{"F-7", "a refusal has done nothing", breaks},
	{"W-3", "what is not granted is 403", granted},
	{"W-4", "a token is a bearer token", ofOwn},
	{"Z-1", "a stopping server says so", stop},
	{"Z-2", "an idle connection ends with 408", stop},
	{"Z-3", "waits are cut, streams end", stop},
	{"L-1", "what a request may be", full},
	{"L-2", "what a page may be", "a server may be set to others"},
	{"L-3", "how long a wait may be", "a server may be set to others"},
	{"L-4", "how much may be going on", full},
	{"L-5", "how much one may ask for", full},
	{"L-6", "how long the head of a request may be", full},
	{"V-2", "unknown members are passed over", ofOwn},
	{"V-3", "unknown events are passed over", ofOwn},
	{"V-4", "unknown problems go by their status", ofOwn},
	{"V-5", "unknown states are pending", ofOwn},
	{"V-6", "members of requests are strict", ofOwn},
	{"V-7", "/v1 stays", "time has to tell"},
	{"N-1", "no order over logs", freedom},
	{"N-2", "no content of receipts and ETags", freedom},
	{"N-3", "no time", freedom},
	{"N-4", "no text for people", freedom},
	{"N-5", "no positions in a dead letter", freedom},
	{"N-6", "no other addresses", freedom},
}

// sortByNumber sorts by section, in the document's order, and by number.
func sortByNumber(findings []Finding) {
	const sections = "MHGAKRSEXCBODFWZLVN"
	slices.SortFunc(findings, func(a, b Finding) int {
		first, m, _ := strings.Cut(a.Number, "-")
		second, n, _ := strings.Cut(b.Number, "-")
		i, _ := strconv.Atoi(m)
		j, _ := strconv.Atoi(n)
		return cmp.Or(cmp.Compare(strings.Index(sections, first), strings.Index(sections, second)), cmp.Compare(i, j))
	})
}

// elsewhere is what is found of them: nothing.
func elsewhere() (all []Finding) {
	for _, e := range Elsewhere {
		all = append(all, Finding{Number: e.Number, Title: e.Title, State: Untested, Seen: e.Why})
	}
	return all
}
