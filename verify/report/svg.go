package report

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// scale maps values to heights: from 0 at the bottom to 1 at the top.
type scale struct {
	low, high float64
	log       bool
}

// linear returns a scale from 0 to a round number that is not below the largest value.
func linear(largest float64) scale {
	if largest <= 0 || math.IsInf(largest, 0) || math.IsNaN(largest) {
		return scale{high: 1}
	}
	unit := math.Pow(10, math.Floor(math.Log10(largest)))
	for _, factor := range []float64{1, 2, 4, 6, 8} {
		if largest <= factor*unit {
			return scale{high: factor * unit}
		}
	}
	return scale{high: 10 * unit}
}

// logarithmic returns a scale around durations, from a power of ten to a round number. Durations below a tenth of a
// millisecond stand at the bottom.
func logarithmic(smallest, largest time.Duration) scale {
	const least = 100 * time.Microsecond
	low := math.Floor(math.Log10(float64(max(smallest, least))) + 1e-9)
	high := math.Log10(linear(float64(max(largest, least))).high)
	return scale{low: low, high: max(high, low+1), log: true}
}

// height returns where a value is, from 0 to 1.
func (s scale) height(v float64) float64 {
	if s.log {
		v = math.Log10(max(v, 1))
	}
	return min(max((v-s.low)/(s.high-s.low), 0), 1)
}

// ticks returns the values at which there are lines across.
func (s scale) ticks() []float64 {
	if !s.log {
		return []float64{0, s.high / 2, s.high}
	}
	step := math.Ceil((s.high - s.low) / 5)
	var ticks []float64
	for at := s.low; at <= s.high+1e-9; at += step {
		ticks = append(ticks, math.Pow(10, at))
	}
	return ticks
}

// path writes the d of an SVG path, with one decimal, which is finer than a screen.
type path struct{ b strings.Builder }

func (p *path) op(op byte, coordinates ...float64) {
	p.b.WriteByte(op)
	for i, c := range coordinates {
		if i > 0 {
			p.b.WriteByte(' ')
		}
		p.b.WriteString(decimal(c))
	}
}

func decimal(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

// rect adds a rectangle.
func (p *path) rect(x, y, width, height float64) {
	p.op('M', x, y)
	p.op('h', width)
	p.op('v', height)
	p.op('h', -width)
	p.b.WriteByte('Z')
}

func (p *path) String() string { return p.b.String() }

// point is one step of a line: a value that is true from one bucket's beginning to its end.
type point struct {
	value float64
	known bool
	sure  bool
}

// stairs draws a line that has one step for each bucket, with x as the buckets' borders: what is sure and what is not,
// as two paths, with nothing where nothing is known.
func stairs(x []float64, points []point, y func(float64) float64) (sure, unsure string) {
	var paths [2]path
	open := -1 // the path whose end is the end of the last step
	for i, p := range points {
		if !p.known {
			open = -1
			continue
		}
		which := 0
		if !p.sure {
			which = 1
		}
		to := &paths[which]
		switch {
		case open == which:
			to.op('V', y(p.value))
		case open >= 0:
			to.op('M', x[i], y(points[i-1].value))
			to.op('V', y(p.value))
		default:
			to.op('M', x[i], y(p.value))
		}
		to.op('H', x[i+1])
		open = which
	}
	return paths[0].String(), paths[1].String()
}

// roundTimes returns the times, from 0 on, at which an axis of a length has ticks: most at the most.
func roundTimes(length time.Duration, most int) []time.Duration {
	step := 100 * time.Millisecond
	for _, next := range append(widths[2:], 2*time.Hour, 3*time.Hour, 6*time.Hour, 12*time.Hour, 24*time.Hour) {
		step = next
		if length/step < time.Duration(most) {
			break
		}
	}
	if days := length / (time.Duration(most) * step); days > 0 {
		step *= days + 1
	}
	var times []time.Duration
	for at := time.Duration(0); at <= length && len(times) <= most; at += step {
		times = append(times, at)
	}
	return times
}
