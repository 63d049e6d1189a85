package quota

import (
	"container/list"
	"math"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/drainmark/drainmark/auth"
)

// addressPart says what part of what all may take that show no credentials one address may: a fourth.
const addressPart = 4

// account is what somebody takes, and may take.
type account struct {
	key   key
	users int           // requests that use it now; Accounts.mu is held
	place *list.Element // among those that are idle; Accounts.mu is held

	mu       sync.Mutex
	limits   *auth.Limits // by which the rest was made, nil if there are none yet
	rates    [numRates]*rate.Limiter
	allowed  [numRates]int64   // as the file has them, 0 for no limit
	most     [numBudgets]most  // that may be held at once
	held     [numBudgets]int64 // that is held now
	given    chan struct{}     // closed when something is given back, nil if nobody waits for that
	follows  map[string]int    // how many event streams follow each log
	followed int64             // different ones that may be followed, 0 for no limit
	logins   *rate.Limiter     // nil before the first that failed
	policy   []string          // the field RateLimit-Policy, nil without a rate
}

// most is how much of a budget an account may hold, and by which limit.
type most struct {
	number int64
	limit  string // as in metrics: a principal's own, or that of which it has a share
	share  bool
}

func newAccount(k key) *account { return &account{key: k, follows: map[string]int{}} }

// limit sets the account's limits, if they are others than before. What was taken stays taken.
func (a *account) limit(l *auth.Limits, c *Config) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.limits == l {
		return
	}
	a.limits = l
	part := int64(1)
	if a.key.from.IsValid() {
		part = addressPart
	}
	for kind, n := range [numRates]int64{l.Requests, l.Bytes, l.NewLogs, l.Keys} {
		a.allowed[kind] = divided(n, part)
		a.setRate(Rate(kind), c)
	}
	a.followed = divided(l.Followed, part)
	own := [numBudgets]int64{Waits: divided(l.Waits, part), Streams: divided(l.Streams, part)}
	for b := range a.most {
		a.most[b] = most{c.Budgets[b] * int64(l.Share) / 100 / part, budgets[b].setting, true}
		if c.Budgets[b] == 0 {
			a.most[b].number = math.MaxInt64
		}
		if own[b] > 0 && own[b] < a.most[b].number {
			a.most[b] = most{own[b], budgets[b].own, false}
		}
	}
	a.setPolicy()
}

// letters is how many open dead letters there may be, 0 for no limit.
func (a *account) letters() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.limits.Letters
}

// divided is a part of a limit: at least 1, because 0 is none.
func divided(n, part int64) int64 { return (n + part - 1) / part }

// setRate makes the bucket of a rate. It is full at first, and holds what is allowed in the rate's time, or the largest
// request.
func (a *account) setRate(kind Rate, c *Config) {
	n := a.allowed[kind]
	if n == 0 {
		a.rates[kind] = nil
		return
	}
	limit, burst := rate.Limit(float64(n)/rates[kind].seconds), n
	if kind == Bytes {
		burst = max(n, c.Request+1) // with the byte by which a body is found to be too large
	}
	if a.rates[kind] == nil {
		a.rates[kind] = rate.NewLimiter(limit, int(burst))
		return
	}
	a.rates[kind].SetLimit(limit)
	a.rates[kind].SetBurst(int(burst))
}

// take takes n of a rate if there is so much. If not it takes nothing.
func (a *account) take(now time.Time, kind Rate, n int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rates[kind] == nil || a.rates[kind].AllowN(now, int(n))
}

// lacks returns how long it takes until n of a rate are there, and whether they ever are.
func (a *account) lacks(now time.Time, kind Rate, n int64) (after time.Duration, ever bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.rates[kind]
	if l == nil {
		return 0, true
	}
	return until(l, now, n), n <= int64(l.Burst())
}

// until returns how long it takes until a bucket holds n.
func until(l *rate.Limiter, now time.Time, n int64) time.Duration {
	missing := float64(n) - l.TokensAt(now)
	return time.Duration(math.Ceil(max(missing, 0) / float64(l.Limit()) * float64(time.Second)))
}

// failed takes one failed login, or returns after what time there may be one more.
func (a *account) failed(now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.logins == nil {
		a.logins = rate.NewLimiter(rate.Limit(failedLogins/time.Minute.Seconds()), failedLogins)
	}
	if a.logins.AllowN(now, 1) {
		return 0
	}
	return until(a.logins, now, 1)
}

// hold takes what is missing of a budget from has, which one request holds, to wants. Who holds nothing else may always
// take some, or a share that is small would never suffice.
func (a *account) hold(b Budget, has, wants int64) (refusal most, held int64, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if others := a.held[b] - has; wants > has && others > 0 && others+wants > a.most[b].number {
		return a.most[b], a.held[b], false
	}
	a.add(b, wants-has)
	return most{}, 0, true
}

// add takes something of a budget, or gives it back. Called with mu held.
func (a *account) add(b Budget, n int64) {
	a.held[b] += n
	if n < 0 && a.given != nil {
		close(a.given)
		a.given = nil
	}
}

// givenBack returns what is closed when something is given back next.
func (a *account) givenBack() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.given == nil {
		a.given = make(chan struct{})
	}
	return a.given
}

// follow counts an event stream of a log. It returns false, and the limit, if too many different logs are followed.
func (a *account) follow(log string) (most int64, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.followed > 0 && a.follows[log] == 0 && int64(len(a.follows)) >= a.followed {
		return a.followed, false
	}
	a.follows[log]++
	return 0, true
}

func (a *account) leave(log string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.follows[log]--; a.follows[log] == 0 {
		delete(a.follows, log)
	}
}

// The rates that the fields RateLimit-Policy and RateLimit tell of (draft-ietf-httpapi-ratelimit-headers), with the unit
// of those that are not of requests.
var told = []struct {
	kind Rate
	unit string
}{{Requests, ""}, {Bytes, `;qu="content-bytes"`}}

// setPolicy makes the field RateLimit-Policy: how much fits into each bucket, and in how many seconds it is filled.
func (a *account) setPolicy() {
	var field []byte
	for _, t := range told {
		if l := a.rates[t.kind]; l != nil {
			field = appendName(field, t.kind)
			field = strconv.AppendInt(append(field, ";q="...), int64(l.Burst()), 10)
			field = append(field, t.unit...)
			field = strconv.AppendInt(append(field, ";w="...), seconds(float64(l.Burst())/float64(l.Limit())), 10)
		}
	}
	a.policy = nil
	if len(field) > 0 {
		a.policy = []string{string(field)}
	}
}

// fields returns RateLimit-Policy and RateLimit, which says what is left and in how many seconds everything is there
// again. Both are nil without a rate.
func (a *account) fields(now time.Time) (policy, left []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.policy == nil {
		return nil, nil
	}
	field := make([]byte, 0, 48)
	for _, t := range told {
		if l := a.rates[t.kind]; l != nil {
			tokens := max(l.TokensAt(now), 0)
			field = appendName(field, t.kind)
			field = strconv.AppendInt(append(field, ";r="...), int64(tokens), 10)
			field = strconv.AppendInt(append(field, ";t="...), seconds((float64(l.Burst())-tokens)/float64(l.Limit())), 10)
		}
	}
	return a.policy, []string{string(field)}
}

func appendName(field []byte, kind Rate) []byte {
	if len(field) > 0 {
		field = append(field, ", "...)
	}
	return append(append(append(field, '"'), rates[kind].name...), '"')
}

// seconds rounds up.
func seconds(s float64) int64 { return int64(math.Ceil(s)) }
