package auth

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/drainmark/drainmark/internal/bytesize"
)

// Limits is how much a principal may take. 0 is no limit, except for Share.
type Limits struct {
	Requests int64 // a second
	Bytes    int64 // of request bodies, a second
	NewLogs  int64 // logs that nobody had written to before, an hour
	Keys     int64 // idempotency keys, an hour
	Waits    int64 // requests that wait, and barriers, at once
	Streams  int64 // event streams at once
	Followed int64 // different logs that these follow at once
	Letters  int64 // open dead letters of what it has appended
	Share    int   // percent of each budget that all share: bodies, answers, and the like
}

// defaultShare is what nobody can take more of than, unless the file says so: three others have as much.
const defaultShare = 25

// limitsText is limits as YAML has them. What it leaves out is that of everybody, or for everybody, no limit.
type limitsText struct {
	Requests *count   `yaml:"requests"`
	Bytes    *size    `yaml:"bytes"`
	NewLogs  *count   `yaml:"new_logs"`
	Keys     *count   `yaml:"keys"`
	Waits    *count   `yaml:"waits"`
	Streams  *count   `yaml:"streams"`
	Followed *count   `yaml:"followed"`
	Letters  *count   `yaml:"letters"`
	Share    *percent `yaml:"share"`
}

// over returns the limits that a principal has by its own text, and where that says nothing, as everybody does.
func (in *limitsText) over(everybody Limits) *Limits {
	l := everybody
	set(&l.Requests, in.Requests)
	set(&l.Bytes, in.Bytes)
	set(&l.NewLogs, in.NewLogs)
	set(&l.Keys, in.Keys)
	set(&l.Waits, in.Waits)
	set(&l.Streams, in.Streams)
	set(&l.Followed, in.Followed)
	set(&l.Letters, in.Letters)
	set(&l.Share, in.Share)
	return &l
}

func set[F, G ~int | ~int64](field *F, given *G) {
	if given != nil {
		*field = F(*given)
	}
}

// maxLimit is the highest number that a limit can be: a whole number that every reader of RateLimit fields knows.
const maxLimit = 999_999_999_999_999

type (
	count   int64
	size    int64
	percent int
)

func (n *count) UnmarshalText(text []byte) error {
	v, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || v < 0 || v > maxLimit {
		return fmt.Errorf("the limit %.40q: it must be a whole number, 0 for no limit", text)
	}
	*n = count(v)
	return nil
}

func (n *size) UnmarshalText(text []byte) error {
	v, err := bytesize.Parse(string(text))
	if err == nil && (v < 0 || v > maxLimit) {
		err = fmt.Errorf("%.40q: it must be 0 or more, and 0 is no limit", text)
	}
	if err != nil {
		return fmt.Errorf("the limit of bytes: %w", err)
	}
	*n = size(v)
	return nil
}

func (n *percent) UnmarshalText(text []byte) error {
	digits, found := strings.CutSuffix(string(text), "%")
	v, err := strconv.Atoi(digits)
	if !found || err != nil || v < 1 || v > 100 {
		return fmt.Errorf("the share %.40q: it must be from 1%% to 100%%", text)
	}
	*n = percent(v)
	return nil
}
