package auth

import (
	"fmt"
	"slices"
	"strings"
)

// Verb is what somebody may do.
type Verb string

// The verbs. Each is granted for logs, except for Status and Admin.
const (
	Append  Verb = "append"  // append messages
	Read    Verb = "read"    // see messages, events, and the log in the list of logs
	Clear   Verb = "clear"   // clear, trim and delete a log
	Erase   Verb = "erase"   // erase single messages
	Letters Verb = "letters" // see, retry and discard dead letters, and see why records are rejected
	Barrier Verb = "barrier" // ask for barriers
	Status  Verb = "status"  // see what works, the backlog, and how many consumers are wanted
	Admin   Verb = "admin"   // everything, also what is of no log: records that cannot be read or are missing, owners, the pause switch, profiles

	// Known is of what everybody may do who is known.
	Known Verb = "known"
	// Public is of what everybody may do.
	Public Verb = "public"
)

// Every is the pattern of all logs.
const Every = "*"

var (
	ofLogs   = []Verb{Append, Read, Clear, Erase, Letters, Barrier}
	ofNoLogs = []Verb{Status, Admin}
)

// Grant allows a verb for logs.
type Grant struct {
	Verb Verb
	Logs string // a log's name, the beginning of names and *, or * for all
}

// ParseGrant reads VERB:LOGS, or one of the verbs that are not granted for logs.
func ParseGrant(text string) (Grant, error) {
	verb, logs, found := strings.Cut(strings.TrimSpace(text), ":")
	g := Grant{Verb(verb), logs}
	switch {
	case slices.Contains(ofNoLogs, g.Verb):
		if found && logs != Every {
			return g, fmt.Errorf("the grant %.80q: %s is not granted for single logs: write %s", text, verb, verb)
		}
		g.Logs = Every
	case !slices.Contains(ofLogs, g.Verb):
		return g, fmt.Errorf("the grant %.80q: the verb must be one of %v and %v", text, ofLogs, ofNoLogs)
	case !found || logs == "":
		return g, fmt.Errorf("the grant %.80q: it must say for which logs: %s:NAME, %s:BEGINNING.* or %s:*", text, verb, verb, verb)
	case !IsPattern(logs):
		return g, fmt.Errorf("the grant %.80q: * can only be all of a pattern, or its end behind . - or _", text)
	}
	return g, nil
}

// IsPattern says whether a text can mean logs: a name, the beginning of names and *, or * for all. The beginning of names must end with what separates their parts: or
// whoever grants order* would grant what they do not think of.
func IsPattern(logs string) bool {
	beginning, starred := strings.CutSuffix(logs, Every)
	return !strings.Contains(beginning, Every) && (!starred || beginning == "" || strings.ContainsAny(beginning[len(beginning)-1:], ".-_"))
}

func (g Grant) String() string {
	if slices.Contains(ofNoLogs, g.Verb) {
		return string(g.Verb)
	}
	return string(g.Verb) + ":" + g.Logs
}

// covers says whether the grant's logs have a log among them, or all that a pattern means.
func (g Grant) covers(log string) bool { return Covers(g.Logs, log) }

// Covers says whether a pattern means a log, or all that another pattern means.
func Covers(pattern, log string) bool {
	if prefix, ok := strings.CutSuffix(pattern, Every); ok {
		return strings.HasPrefix(log, prefix)
	}
	return pattern == log
}

// Grants is what somebody may do. What is not granted is denied.
type Grants []Grant

// any says whether a verb is granted for at least one log.
func (g Grants) any(v Verb) bool {
	return v == Known || v == Public || slices.ContainsFunc(g, func(one Grant) bool { return one.Verb == Admin || one.Verb == v })
}

// allow says whether a verb is granted for a log. What is of no log, "", is granted to Admin only.
func (g Grants) allow(v Verb, log string) bool {
	if v == Known || v == Public {
		return true
	}
	return slices.ContainsFunc(g, func(one Grant) bool {
		return one.Verb == Admin || one.Verb == v && log != "" && one.covers(log)
	})
}

// next returns the place in the order of names from which on the next log may stand for which a verb is granted, behind one
// for which it is not. false if there is none.
func (g Grants) next(v Verb, behind string) (from string, ok bool) {
	for _, one := range g {
		if start := strings.TrimSuffix(one.Logs, Every); one.Verb == v && start > behind && (!ok || start < from) {
			from, ok = start, true
		}
	}
	return from, ok
}
