package hosts_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark/internal/hosts"
)

func TestHostsInTroubleAreTriedLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen hosts.Troubles
		want := func(want string) {
			t.Helper()
			itself := func(host string) string { return host }
			if got := strings.Join(hosts.Order(&seen, strings.Split("abcd", ""), itself), ""); got != want {
				t.Errorf("the order is %s, not %s", got, want)
			}
		}
		want("abcd")
		seen.Note("b")
		time.Sleep(time.Second)
		seen.Note("a")
		want("cdab")
		time.Sleep(hosts.Avoided - time.Second - 1)
		want("cdab")
		time.Sleep(time.Nanosecond)
		want("bcda")
		seen.Note("a")
		time.Sleep(hosts.Avoided - 1)
		want("bcda")
		time.Sleep(time.Nanosecond)
		want("abcd")
	})
}
