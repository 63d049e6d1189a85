package brokertest

import (
	"strings"

	"github.com/drainmark/drainmark"
)

// replayCases are for brokers that keep their log.
var replayCases = []testCase{
	{name: "opening behind a cursor delivers exactly what follows it", run: openBehindCursor, needs: replays},
	{name: "reading again begins at the beginning, and takes nobody back", run: readingAgain, needs: replays},
	{name: "a cursor that the broker does not know is the beginning", run: unknownCursor, needs: replays},
	{name: "receivers of one partition do not disturb each other", run: independentReceivers, needs: replays},
	{name: "cursors are still good after the server was killed", run: cursorAfterKill, needs: replaysAndCanKill, kills: true},
	{name: "what is gone before it was read is told once, and nothing else is", run: purgedIsTold, needs: replaysAndCanPurge},
	{name: "what is gone after it was read is not told when it is read again", run: purgedIsNotToldAgain, needs: replaysAndCanPurge},
}

func readingAgain(c *C) {
	b := c.connect()
	batches := singles(1, 5)
	c.publish(b, batches...)
	all := c.expect(c.open(b, 0, ""), batches...)
	for read := range all {
		r := c.openAgain(b, all[read].Cursor)
		for i, d := range c.expect(r, batches...) {
			if i <= read && d.Cursor != all[read].Cursor {
				c.Fatalf("read again behind batch %d, batch %d has the cursor %q, want %q", read+1, i+1, d.Cursor, all[read].Cursor)
			}
			if i > read {
				c.expect(c.open(b, 0, d.Cursor), batches[i+1:]...)
			}
		}
		c.closed("closing the receiver", r.Close)
	}
	c.expect(c.openAgain(b, ""), batches...)
}

func purgedIsTold(c *C) { c.tellsPurged(false) }

func purgedIsNotToldAgain(c *C) { c.tellsPurged(true) }

// tellsPurged checks that a purge is told exactly if it took something that had not been read, and once.
func (c *C) tellsPurged(again bool) {
	c.Helper()
	b := c.connect()
	c.publish(b, singles(1, 5)...)
	all := c.expect(c.open(b, 0, ""), singles(1, 5)...)
	c.Purge(c.T, 0)
	c.publish(b, batch(1, 6, 6))
	for read, d := range all {
		from := d.Cursor
		told := 0
		for came := false; !came; {
			got, err := c.tryReceive(c.openFor(b, 0, from, again), 1)
			switch {
			case err != nil || len(got) != 1:
				c.Fatalf("receiving behind %d of 5 batches that were purged: %d batches, %v", read+1, len(got), err)
			case got[0].Lost != "":
				told++
			case got[0].First != 6:
				c.Fatalf("received %v, want 6", got[0].Span())
			default:
				came = true
			}
			from = got[0].Cursor
			if told > 1 {
				break
			}
		}
		if want := min(4-read, 1); told != want {
			c.Fatalf("behind %d of 5 batches that were purged a loss is told %d times, want %d", read+1, told, want)
		}
	}
}

func openBehindCursor(c *C) {
	b := c.connect()
	batches := singles(1, 5)
	c.publish(b, batches...)
	all := c.expect(c.open(b, 0, ""), batches...)
	other := c.connect()
	for i, d := range all {
		r := c.open(other, 0, d.Cursor)
		c.expect(r, batches[i+1:]...)
		c.nothing(r)
		c.closed("closing the receiver", r.Close)
	}
	r := c.open(other, 0, all[4].Cursor)
	c.publish(b, batch(1, 6, 6))
	c.expect(r, batch(1, 6, 6))
}

func unknownCursor(c *C) {
	b := c.connect()
	batches := singles(1, 3)
	c.publish(b, batches...)
	last := string(c.expect(c.open(b, 0, ""), batches...)[2].Cursor)
	for _, cursor := range []string{
		"garbage", "-1", ":", "1:2:3", "é\x00", "99999999", "18446744073709551616", last + "00", last + " ", strings.Repeat("9", 500),
	} {
		r := c.open(b, 0, drainmark.Cursor(cursor))
		c.expect(r, batches...)
		c.closed("closing the receiver", r.Close)
	}
}

func independentReceivers(c *C) {
	b := c.connect()
	batches := singles(1, 6)
	c.publish(b, batches...)
	one, two := c.open(b, 0, ""), c.open(c.connect(), 0, "")
	got := c.expect(one, batches[:4]...)
	c.ack(one, got[3])
	c.expect(two, batches[:2]...)
	c.closed("closing one receiver", one.Close)
	c.expect(two, batches[2:]...)
}

func cursorAfterKill(c *C) {
	b := c.connect()
	batches := singles(1, 5)
	c.publish(b, batches...)
	got := c.expect(c.open(b, 0, ""), batches...)
	c.Kill(c.T)
	c.Revive(c.T)
	b = c.connect()
	r := c.open(b, 0, got[2].Cursor)
	c.expect(r, batches[3:]...)
	c.publish(b, batch(1, 6, 6))
	c.expect(r, batch(1, 6, 6))
}
