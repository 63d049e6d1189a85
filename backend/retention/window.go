package retention

import (
	"errors"
	"slices"

	"github.com/drainmark/drainmark"
)

// window is how many bytes a log has, in parts of up to partMessages messages. When a log is seen for the first time, it is
// read from its end backwards until there are as many bytes as it keeps. From then on only what is new is read. So each
// message that is kept is read once.
type window struct {
	parts    []part // in order, without gaps
	total    uint64
	erasures uint64 // with another number, sizes have changed
}

// part is some messages in a row.
type part struct {
	after, last uint64 // they stand behind after, up to last
	bytes       uint64
}

// sizes reads up to limit messages behind a position. errMoved if the next one is not there any more.
type sizes func(log string, after uint64, limit int) (part, error)

var errMoved = errors.New("the log was trimmed meanwhile")

const partMessages = 1000

// through brings the window up to date, and returns the position through which the log can be trimmed so that at least so
// many bytes stay, 0 if it has no more.
func (w *window) through(log drainmark.LogInfo, keep uint64, read sizes) (uint64, error) {
	if n := len(w.parts); n > 0 && (w.parts[n-1].last > log.LastPosition || w.erasures != log.Erasures) {
		*w = window{} // the store has lost its tail, or sizes have changed
	}
	w.erasures = log.Erasures
	update := w.grow
	if len(w.parts) == 0 {
		update = func(log drainmark.LogInfo, read sizes) error { return w.fill(log, keep, read) }
	}
	switch err := update(log, read); {
	case errors.Is(err, errMoved): // the next look sees where it begins
		*w = window{}
		return 0, nil
	case err != nil:
		*w = window{}
		return 0, err
	}
	// Somebody else may have trimmed the first part in the middle: then it still counts, and what is left of it stays.
	for len(w.parts) > 0 && (w.parts[0].last <= log.ClearedThrough || w.total-w.parts[0].bytes >= keep) {
		w.total -= w.parts[0].bytes
		w.parts = w.parts[1:]
	}
	if len(w.parts) == 0 {
		return 0, nil
	}
	return w.parts[0].after, nil
}

// fill reads from the end of the log backwards until there are enough bytes, or all.
func (w *window) fill(log drainmark.LogInfo, keep uint64, read sizes) error {
	for end := log.LastPosition; end > log.ClearedThrough && w.total < keep; {
		after := max(end-min(end, partMessages), log.ClearedThrough)
		whole := part{after: after, last: after}
		for whole.last < end {
			if err := whole.extend(log.Name, int(end-whole.last), read); err != nil {
				return err
			}
		}
		w.parts = append(w.parts, whole)
		w.total += whole.bytes
		end = after
	}
	slices.Reverse(w.parts)
	return nil
}

// grow reads what has been appended since.
func (w *window) grow(log drainmark.LogInfo, read sizes) error {
	for {
		last := &w.parts[len(w.parts)-1]
		if last.last >= log.LastPosition {
			return nil
		}
		if last.last-last.after >= partMessages {
			w.parts = append(w.parts, part{after: last.last, last: last.last})
			continue
		}
		before := last.bytes
		room := min(partMessages-(last.last-last.after), log.LastPosition-last.last)
		if err := last.extend(log.Name, int(room), read); err != nil {
			return err
		}
		w.total += last.bytes - before
	}
}

// extend reads up to so many messages more into a part.
func (p *part) extend(log string, limit int, read sizes) error {
	more, err := read(log, p.last, limit)
	if err != nil {
		return err
	}
	p.last, p.bytes = more.last, p.bytes+more.bytes
	return nil
}
