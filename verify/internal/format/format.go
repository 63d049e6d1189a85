// Package format writes numbers for people.
package format

import "strconv"

// Thousands writes a number with commas: 1,234,567.
func Thousands[N int | uint64](n N) string {
	if n < 0 {
		return "-" + Thousands(uint64(-n))
	}
	text := strconv.FormatUint(uint64(n), 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
