// Package smallfile reads files that people write, of which nobody knows how large they are.
package smallfile

import (
	"fmt"
	"io"
	"os"
)

// Read returns what a file has. One with more bytes than the limit is an error that names it.
func Read(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = &os.PathError{Op: "read", Path: path, Err: fmt.Errorf("it has more than %d bytes", limit)}
	}
	return text, err
}
