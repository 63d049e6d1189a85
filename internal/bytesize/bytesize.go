// Package bytesize reads numbers of bytes as people write them.
package bytesize

import (
	"fmt"
	"strconv"
	"strings"
)

// units are those of sizes, in small letters.
var units = map[string]int64{
	"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}

// Parse reads bytes, or a number with kB, MB, GB or TB (powers of 1,000), or KiB, MiB, GiB or TiB (of 1,024).
func Parse(text string) (int64, error) {
	given := strings.TrimSpace(text)
	end := strings.LastIndexAny(given, "0123456789") + 1
	number, err := strconv.ParseInt(given[:end], 10, 64)
	unit, known := units[strings.ToLower(strings.TrimSpace(given[end:]))]
	if err != nil || !known || number > (1<<63-1)/unit || number < -(1<<63-1)/unit {
		return 0, fmt.Errorf("%.40q: it must be a number of bytes, such as 1048576, 1MiB or 10GB", given)
	}
	return number * unit, nil
}
