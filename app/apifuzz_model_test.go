package app

import (
	"encoding/json"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
)

// This is the model of who may do what. It is written from docs/security.md and docs/http-api.md, and knows nothing of
// the code that decides.

// someone is a principal of the file. Grants are as the file has them.
type someone struct {
	name   string // empty for requests without credentials
	grants []string
	tokens []string // that are good
}

// may says whether a verb is granted for a log, "" for what is of none.
func (s *someone) may(verb, log string) bool {
	return s != nil && slices.ContainsFunc(s.grants, func(grant string) bool {
		granted, logs, _ := strings.Cut(grant, ":")
		beginning, starred := strings.CutSuffix(logs, "*")
		return granted == "admin" || granted == verb && (logs == log || starred && strings.HasPrefix(log, beginning))
	})
}

// maySome says whether a verb is granted for anything.
func (s *someone) maySome(verb string) bool {
	return s != nil && slices.ContainsFunc(s.grants, func(grant string) bool {
		granted, _, _ := strings.Cut(grant, ":")
		return granted == "admin" || granted == verb
	})
}

// mayAll says whether a verb is granted for all logs.
func (s *someone) mayAll(verb string) bool {
	return s.may("admin", "") || s != nil && slices.Contains(s.grants, verb+":*")
}

// judgment is what the answer to a request may be.
type judgment struct {
	who      *someone              // nil for nobody who is known
	route    string                // for the count
	refusals []int                 // if there are some, the answer must be one of them
	may      bool                  // the answer must not be that a grant or a login is missing
	shows    func(log string) bool // of which logs it may have something that the request does not say itself
	hides    []string              // what it must not have
	own      []byte                // what the request says itself
}

// nothing is what an answer shows that is not of any log.
func nothing(string) bool { return false }

// refused is the judgment on a request that must not be carried out.
func refused(who *someone, route string, statuses ...int) judgment {
	return judgment{who: who, route: route, refusals: statuses, shows: nothing}
}

// model knows who there are, and which log a dead letter is of.
type model struct {
	byToken   map[string]*someone
	anonymous *someone // nil if requests without credentials are nobody's
	logOf     func(id string) (log string, known bool)
}

// whoMakes returns whose a request is, nil if nobody's who is known.
func (m *model) whoMakes(r *http.Request) *someone {
	given := r.Header["Authorization"]
	switch {
	case len(given) == 0:
		return m.anonymous
	case len(given) > 1:
		return nil
	}
	scheme, token, _ := strings.Cut(given[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil
	}
	return m.byToken[strings.TrimSpace(token)]
}

// rules say for each route who may use it, and what they are shown. args are what its path names.
var rules = []struct {
	method, path string
	judge        func(m *model, v judgment, r *http.Request, body []byte, args []string) judgment
}{
	{"GET", "/v1", (*model).public},
	{"GET", "/v1/openapi.json", (*model).public},
	{"GET", "/v1/logs", (*model).logs},
	{"POST", "/v1/logs/*/messages", ofLog("append", "letters", "append")},
	{"GET", "/v1/logs/*/messages", ofLog("read", "read")},
	{"DELETE", "/v1/logs/*/messages", ofLog("clear")},
	{"DELETE", "/v1/logs/*/messages/*", ofLog("erase")},
	{"POST", "/v1/logs/*/trim", ofLog("clear")},
	{"DELETE", "/v1/logs/*", ofLog("clear")},
	{"GET", "/v1/logs/*/events", ofLog("read", "read")},
	{"GET", "/v1/receipts/*", (*model).receipt},
	{"POST", "/v1/barriers", (*model).barrier},
	{"GET", "/v1/backlog", (*model).status},
	{"GET", "/v1/status", (*model).status},
	{"GET", "/v1/consumers", (*model).status},
	{"GET", "/v1/dead-letters", (*model).letters},
	{"POST", "/v1/dead-letters", (*model).letters},
	{"DELETE", "/v1/dead-letters", (*model).letters},
	{"POST", "/v1/dead-letters/*/retry", (*model).letter},
	{"DELETE", "/v1/dead-letters/*", (*model).letter},
	{"GET", "/admin/consumer", (*model).admins},
	{"PUT", "/admin/consumer", (*model).admins},
}

// judge says what the answer to a request may be.
func (m *model) judge(r *http.Request, body []byte) judgment {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	for _, rule := range rules {
		if args, ok := fits(rule.path, r.URL.EscapedPath()); ok && rule.method == method {
			v := judgment{who: m.whoMakes(r), route: method + " " + rule.path, may: true, shows: nothing}
			return rule.judge(m, v, r, body, args)
		}
	}
	return judgment{who: m.whoMakes(r), route: "nothing", may: true, shows: nothing}
}

// fits says whether a path is a pattern's, and what stands in place of its stars.
func fits(pattern, escaped string) (args []string, ok bool) {
	parts, wanted := strings.Split(escaped, "/"), strings.Split(pattern, "/")
	if len(parts) != len(wanted) || escaped != path.Clean(escaped) {
		return nil, false
	}
	for i, want := range wanted {
		part, err := url.PathUnescape(parts[i])
		switch {
		case err != nil:
			return nil, false
		case want == "*":
			args = append(args, part)
		case part != want:
			return nil, false
		}
	}
	return args, true
}

func (m *model) public(v judgment, _ *http.Request, _ []byte, _ []string) judgment { return v }

// known refuses nobody who is known.
func (m *model) known(v judgment) judgment {
	if v.who == nil {
		return refused(nil, v.route, http.StatusUnauthorized, http.StatusTooManyRequests)
	}
	return v
}

// logName is what a log's name must match.
var logName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,127}$`)

// ofLog allows those to whom a verb is granted for the log of the path. The answer shows the log only to those who have one
// of some verbs.
func ofLog(verb string, shown ...string) func(*model, judgment, *http.Request, []byte, []string) judgment {
	return func(m *model, v judgment, _ *http.Request, _ []byte, args []string) judgment {
		if v = m.known(v); v.refusals != nil {
			return v
		}
		who := v.who
		switch {
		case !logName.MatchString(args[0]):
			return refused(who, v.route, http.StatusBadRequest)
		case !who.may(verb, args[0]):
			return refused(who, v.route, http.StatusForbidden)
		}
		v.shows = func(log string) bool {
			return log == args[0] && slices.ContainsFunc(shown, func(verb string) bool { return who.may(verb, log) })
		}
		return v
	}
}

func (m *model) logs(v judgment, _ *http.Request, _ []byte, _ []string) judgment {
	if v = m.known(v); v.refusals == nil {
		who := v.who
		v.shows = func(log string) bool { return who.may("read", log) }
	}
	return v
}

// receipt: everybody who is known may ask. Reasons are for those whom they concern, and places for readers.
func (m *model) receipt(v judgment, r *http.Request, _ []byte, _ []string) judgment {
	if v = m.known(v); v.refusals != nil {
		return v
	}
	who := v.who
	v.shows = func(log string) bool { return who.may("letters", log) || who.may("append", log) }
	if log := r.URL.Query().Get("log"); !who.may("read", log) {
		v.hides = []string{`"messages":`}
	}
	return v
}

// barrier needs the verb for each log that is named, or for all if none is. With an earlier one's receipt, anybody may ask again.
func (m *model) barrier(v judgment, r *http.Request, body []byte, _ []string) judgment {
	if v = m.known(v); v.refusals != nil {
		return v
	}
	if !v.who.maySome("barrier") {
		return refused(v.who, v.route, http.StatusForbidden)
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	var wanted struct{ Logs []string }
	if err != nil || len(body) > 0 && json.Unmarshal(body, &wanted) != nil {
		v.refusals = []int{http.StatusBadRequest, http.StatusForbidden, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType}
		return v
	}
	logs := append(query["log"], wanted.Logs...)
	for _, log := range logs {
		if !v.who.may("barrier", log) {
			v.refusals = []int{http.StatusForbidden}
			if slices.ContainsFunc(logs, func(log string) bool { return !logName.MatchString(log) }) || len(body) > 0 || len(logs) > 1000 || r.Header["Content-Encoding"] != nil || len(r.Header["Content-Type"]) > 1 {
				v.refusals = []int{http.StatusForbidden, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType}
			}
			return v
		}
	}
	if len(logs) == 0 && !v.who.mayAll("barrier") {
		v.may = false // with a good receipt it may
		if !query.Has("receipt") {
			v.refusals = []int{http.StatusForbidden, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType}
		}
	}
	return v
}

// status shows owners and causes to those who may admin alone.
func (m *model) status(v judgment, _ *http.Request, _ []byte, _ []string) judgment {
	if v = m.known(v); v.refusals != nil {
		return v
	}
	if !v.who.may("status", "") {
		return refused(v.who, v.route, http.StatusForbidden)
	}
	if v.shows = func(string) bool { return true }; !v.who.may("admin", "") {
		v.shows, v.hides = nothing, []string{`"owner":"up`}
	}
	return v
}

// letters: of the logs for which they are granted. The others are not there.
func (m *model) letters(v judgment, _ *http.Request, _ []byte, _ []string) judgment {
	if v = m.known(v); v.refusals != nil {
		return v
	}
	if !v.who.maySome("letters") {
		return refused(v.who, v.route, http.StatusForbidden)
	}
	who := v.who
	v.shows = func(log string) bool { return who.may("letters", log) }
	if !who.may("admin", "") {
		v.hides = []string{`"undecoded":true`}
	}
	return v
}

func (m *model) letter(v judgment, r *http.Request, body []byte, args []string) judgment {
	if v = m.letters(v, r, body, args); v.refusals != nil {
		return v
	}
	if log, known := m.logOf(args[0]); known && !v.who.may("letters", log) {
		v = refused(v.who, v.route, http.StatusNotFound)
		v.hides = []string{"not missing", "discarded"}
		return v
	}
	v.may = false // it need not be there
	return v
}

// admins: a frontend has no pause switch.
func (m *model) admins(v judgment, _ *http.Request, _ []byte, _ []string) judgment {
	v = m.known(v)
	if v.refusals != nil {
		v.refusals = append(v.refusals, http.StatusNotFound)
	} else if !v.who.may("admin", "") {
		return refused(v.who, v.route, http.StatusForbidden, http.StatusNotFound)
	}
	return v
}
