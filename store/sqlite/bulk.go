package sqlite

import (
	"context"
	"database/sql/driver"
	"strings"
)

// bulk is an INSERT of many rows, in statements of a few sizes: the rows share the fixed cost of a statement.
type bulk struct {
	columns int
	queries [len(bulkSizes)]string
}

var bulkSizes = [...]int{64, 8, 1}

// newBulk makes a bulk of "INSERT INTO … VALUES", the number of columns, and what follows the values.
func newBulk(insert string, columns int, then string) *bulk {
	b := &bulk{columns: columns}
	row := "(?" + strings.Repeat(",?", columns-1) + ")"
	for i, size := range bulkSizes {
		b.queries[i] = insert + " " + row + strings.Repeat(","+row, size-1) + " " + then
	}
	return b
}

// insert inserts n rows. fill sets the arguments of one.
func (b *bulk) insert(c *conn, n int, fill func(i int, row []driver.NamedValue)) error {
	defer c.forget()
	for kind, done := 0, 0; done < n; {
		size := bulkSizes[kind]
		if n-done < size {
			kind++
			continue
		}
		args := c.arguments(size * b.columns)
		for i := range size {
			fill(done+i, args[i*b.columns:(i+1)*b.columns])
		}
		if _, err := c.execBound(context.Background(), b.queries[kind], args); err != nil {
			return err
		}
		done += size
	}
	return nil
}
