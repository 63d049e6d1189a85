package redis

import (
	"fmt"
	"strings"
	"testing"

	"github.com/drainmark/drainmark/store"
	"github.com/drainmark/drainmark/test/servers"
)

// TestWhatIsErasedIsNotInAStream looks into what the server keeps of a stream, for messages that share a node with others.
func TestWhatIsErasedIsNotInAStream(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, servers.RedisOptions{Roles: true})
	f := newFiller(t, openStore(t, urlOf(server), Options{}))
	c := f.next(400, 1)
	const erased = 150
	c.Operations[erased-1].Record.Body = []byte("a secret")
	f.must(t, c)
	stream := "drainmark:{p0}:log:" + f.log
	if kept := fmt.Sprint(server.Do("DUMP", stream)); !strings.Contains(kept, "a secret") {
		t.Fatal("what the server keeps of the stream cannot be searched")
	}
	c = f.next(1, 1)
	c.Operations[0].Kind, c.Operations[0].Position = store.Erase, erased
	f.must(t, c)
	for _, key := range []string{stream, "drainmark:{p0}:aside:" + f.log} {
		if kept := fmt.Sprint(server.Do("DUMP", key)); strings.Contains(kept, "a secret") {
			t.Errorf("%s still has it", key)
		}
	}
	if n := len(server.Do("ZRANGE", "drainmark:{p0}:aside:"+f.log, 0, -1).([]any)); n > 199 {
		t.Errorf("%d messages were put aside, and there are no more than 99 on each side in a node", n)
	}
}
