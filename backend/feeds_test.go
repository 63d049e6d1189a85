package backend

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drainmark/drainmark"
)

// follower follows a log in a goroutine of its own and checks that positions follow each other.
type follower struct {
	log  string
	seen chan drainmark.Message

	leave func()
}

func (s *system) follow(log string, after uint64) *follower {
	s.Helper()
	sub, err := s.Subscribe(s.Context(), log, after)
	if err != nil {
		s.Fatal(err)
	}
	f := &follower{log: log, seen: make(chan drainmark.Message, 10_000)}
	f.leave = sub.Close
	s.AtEnd(sub.Close)
	go func() {
		for {
			messages, err := sub.Next(s.Context())
			if err != nil {
				return
			}
			for _, m := range messages {
				f.seen <- m
			}
		}
	}()
	return f
}

// got fails the test unless this is what the follower has seen since it was asked last.
func (f *follower) got(s *system, bodies ...string) {
	s.Helper()
	synctest.Wait()
	var seen []string
	for len(f.seen) > 0 {
		seen = append(seen, string((<-f.seen).Body))
	}
	if strings.Join(seen, " ") != strings.Join(bodies, " ") {
		s.Errorf("who follows %s has seen %q instead of %q", f.log, seen, bodies)
	}
}

// However many logs are followed, a commit costs one read for its partition, and one for each of those that it wrote to.
func TestOtherFollowedLogsCostNoReads(t *testing.T) {
	t.Parallel()
	running(t, Limits{Poll: time.Hour}, 1, func(s *system) {
		s.drain()
		s.state(s.append("there", "1"), time.Minute)
		followed := []*follower{s.follow("there", 0)}
		for i := range 500 {
			followed = append(followed, s.follow(fmt.Sprint("not-there-", i), 0))
		}
		synctest.Wait()
		const commits = 20
		messages, written := s.reader.messages.Load(), s.reader.written.Load()
		for i := range commits {
			s.state(s.append("nobody-follows", fmt.Sprint(i)), time.Minute)
		}
		synctest.Wait()
		if n := s.reader.messages.Load() - messages; n != 0 {
			t.Errorf("%d commits to a log that nobody follows cost %d reads of logs", commits, n)
		}
		if n := s.reader.written.Load() - written; n < 1 || n > commits {
			t.Errorf("%d commits cost %d reads of what was written to", commits, n)
		}
		s.state(s.append("not-there-7", "first"), time.Minute)
		s.state(s.append("there", "2"), time.Minute)
		synctest.Wait()
		if n := s.reader.messages.Load() - messages; n != 2 {
			t.Errorf("2 commits to followed logs cost %d reads of logs", n)
		}
		followed[0].got(s, "1", "2")
		followed[1+7].got(s, "first")
		followed[1+8].got(s)
	})
}

// feedTroubles keep messages from being seen at once. The test wants to see what was written meanwhile.
var feedTroubles = []struct {
	name    string
	trouble func(s *system, write func(log, text string))
	want    map[string][]string
}{
	{"while the replica lags", func(s *system, write func(log, text string)) {
		s.replica.Pause()
		write("a", "a1")
		write("b", "b1")
		s.replica.CatchUp()
		write("c", "c1")
		time.Sleep(time.Minute)
		s.replica.Resume()
	}, map[string][]string{"a": {"a1"}, "b": {"b1"}, "c": {"c1"}}},

	{"while what was written to cannot be told", func(s *system, write func(log, text string)) {
		s.reader.incomplete.Store(true)
		write("a", "a1")
		write("a", "a2")
		time.Sleep(time.Minute)
		write("d", "d1")
	}, map[string][]string{"a": {"a1", "a2"}, "d": {"d1"}}},

	{"while the reader fails", func(s *system, write func(log, text string)) {
		s.reader.failing.Store(true)
		write("a", "a1")
		write("b", "b1")
		time.Sleep(time.Minute)
		s.reader.failing.Store(false)
	}, map[string][]string{"a": {"a1"}, "b": {"b1"}}},

	// The commits that are lost are supplied again by the broker in fewer commits than before. So their revisions are
	// lower now than what the feeds had seen, and those of the commits behind them are not.
	{"while the store loses its tail", func(s *system, write func(log, text string)) {
		for range 4 {
			write("e", "e")
		}
		write("a", "a1")
		write("b", "b1")
		time.Sleep(time.Minute)
		s.replica.Pause()
		if err := s.DB.Rollback(6); err != nil {
			s.Fatal(err)
		}
		write("c", "c1")
		write("d", "d1")
		time.Sleep(time.Minute)
		s.replica.Resume()
	}, map[string][]string{"a": {"a1"}, "b": {"b1"}, "c": {"c1"}, "d": {"d1"}, "e": {"e", "e", "e", "e"}}},

	{"while a log is cleared", func(s *system, write func(log, text string)) {
		write("a", "a1")
		time.Sleep(time.Second)
		clearing, err := s.Publish(s.Context(), drainmark.Record{Kind: drainmark.Clear, Log: "a", AcceptedAt: time.Now()})
		if err != nil {
			s.Fatal(err)
		}
		s.state(clearing, time.Minute)
		write("a", "a2")
	}, map[string][]string{"a": {"a1", "a2"}}},
}

// Every message is seen once, even if something keeps it from being seen at once.
func TestFollowersMissNothing(t *testing.T) {
	t.Parallel()
	logs := []string{"a", "b", "c", "d", "e"}
	for _, c := range feedTroubles {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			replaying(t, Limits{}, func(s *system) {
				s.drain()
				s.state(s.append("before", "1"), time.Minute)
				followers := map[string]*follower{}
				for _, log := range logs {
					followers[log] = s.follow(log, 0)
				}
				synctest.Wait()
				c.trouble(s, func(log, text string) {
					s.append(log, text)
					time.Sleep(time.Second)
				})
				time.Sleep(time.Minute)
				for _, log := range logs {
					followers[log].got(s, c.want[log]...)
				}
			})
		})
	}
}

// A subscriber that waits for messages that the store has lost is woken when the log is written to, and not by every
// other commit.
func TestWaitingForALostTailCostsNoReads(t *testing.T) {
	t.Parallel()
	running(t, Limits{Poll: time.Hour}, 1, func(s *system) {
		s.drain()
		for i := range 10 {
			s.state(s.append("log", fmt.Sprint("old-", i+1)), time.Minute)
		}
		live := s.follow("log", 10)
		synctest.Wait()
		s.undrain()
		if err := s.DB.Rollback(5); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour) // for a poll: the store has the same token still, and an older revision
		synctest.Wait()
		if stored := s.feeds.logs[0]["log"].stored; stored != 5 {
			t.Errorf("the store has lost its tail, and the feed goes by position %d", stored)
		}
		s.drain()
		s.state(s.append("other", "x"), time.Minute)
		waiting := s.follow("log", 7)
		synctest.Wait()
		const commits = 20
		before := s.reader.messages.Load()
		for i := range commits {
			s.state(s.append("other", fmt.Sprint(i)), time.Minute)
		}
		synctest.Wait()
		if n := s.reader.messages.Load() - before; n != 0 {
			t.Errorf("%d commits to another log cost %d reads", commits, n)
		}
		before = s.reader.messages.Load()
		for i := range 6 {
			s.state(s.append("log", fmt.Sprint("new-", 6+i)), time.Minute)
		}
		waiting.got(s, "new-8", "new-9", "new-10", "new-11")
		live.got(s, "new-11")
		if n := s.reader.messages.Load() - before; n > 2*6 {
			t.Errorf("6 commits to the log cost %d reads", n)
		}
	})
}

// All feeds together keep no more than their limit, and other messages are read from the store.
func TestFeedsHaveOneLimit(t *testing.T) {
	t.Parallel()
	const logs, each, size = 20, 30, 1000
	limits := Limits{FeedsBytes: 100_000}
	running(t, limits, 2, func(s *system) {
		s.drain()
		var followed []*follower
		for i := range logs {
			followed = append(followed, s.follow(fmt.Sprint("log-", i), 0))
		}
		var want []string
		for i := range each {
			want = append(want, strings.Repeat(string(rune('a'+i)), size))
			for l := range logs {
				s.state(s.append(fmt.Sprint("log-", l), want[i]), time.Minute)
			}
			synctest.Wait()
			if held := s.feeds.bytes.Load(); held <= 0 {
				t.Fatalf("the feeds hold %d bytes", held)
			}
		}
		if most := s.feedBytes.most.Load(); most > int64(limits.FeedsBytes) {
			t.Errorf("at some moment the feeds held %d bytes; the limit is %d", most, limits.FeedsBytes)
		}
		sum := 0
		for _, partition := range s.feeds.logs {
			for _, f := range partition {
				for i := range f.messages {
					sum += memoryOf(&f.messages[i])
				}
			}
		}
		if held := s.feeds.bytes.Load(); held != int64(sum) {
			t.Errorf("the feeds hold %d bytes and count %d", sum, held)
		}
		for _, f := range followed {
			f.got(s, want...)
		}
		last := s.follow("log-3", 0)
		last.got(s, want...) // most messages are no longer kept
		for _, f := range append(followed, last) {
			f.leave()
		}
		if held := s.feeds.bytes.Load(); held != 0 {
			t.Errorf("nobody follows anything, and the feeds hold %d bytes", held)
		}
	})
}

// A subscriber gets about 64 KiB at a time, from memory and from the store.
func TestSubscribersGetLittleAtOnce(t *testing.T) {
	t.Parallel()
	for _, kept := range []int{1, 10_000} {
		running(t, Limits{FeedMessages: kept}, 1, func(s *system) {
			s.drain()
			const messages, size = 3000, 1000
			var texts []string
			for range messages {
				texts = append(texts, strings.Repeat("x", size))
			}
			s.state(s.append("log", texts...), time.Minute)
			sub, err := s.Subscribe(s.Context(), "log", 0)
			if err != nil {
				t.Fatal(err)
			}
			defer sub.Close()
			calls := 0
			for seen := 0; seen < messages; calls++ {
				got, err := sub.Next(s.Context())
				if err != nil {
					t.Fatal(err)
				}
				if n := len(got); n*size > subscriptionBytes || cap(got) > 2*n {
					t.Fatalf("%d messages of %d bytes came at once, in an array for %d", n, size, cap(got))
				}
				seen += len(got)
			}
			if least := messages * size / subscriptionBytes; calls > 3*least {
				t.Errorf("%d calls were needed where %d would do", calls, least)
			}
		})
	}
}

func TestShare(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		held        []int
		total, want int
	}{
		{[]int{1, 1, 1}, 9, 6}, {[]int{10, 10}, 10, 5}, {[]int{1, 100, 50}, 61, 30}, {[]int{1, 100, 20}, 61, 40}, {[]int{5}, 3, 3}, {nil, 7, 7},
	} {
		if got := share(c.held, c.total); got != c.want {
			t.Errorf("of %v everybody keeps %d to keep %d together; want %d", c.held, got, c.total, c.want)
		}
	}
}

func TestHeadersCountAsMemory(t *testing.T) {
	t.Parallel()
	headers, err := drainmark.NewHeaders(drainmark.Header{Name: "a", Value: strings.Repeat("v", 1000)})
	if err != nil {
		t.Fatal(err)
	}
	with, without := drainmark.Message{Body: []byte("b"), Headers: headers}, drainmark.Message{Body: []byte("b")}
	if more := memoryOf(&with) - memoryOf(&without); more < 1000 {
		t.Errorf("a message with 1,000 bytes of headers takes %d bytes more than one without", more)
	}
}

// TestFeedsForgetWhatIsRemoved: whoever begins to follow later is not shown from memory what the store has no more.
func TestFeedsForgetWhatIsRemoved(t *testing.T) {
	t.Parallel()
	replaying(t, Limits{}, func(s *system) {
		s.drain()
		remove := func(kind drainmark.RecordKind, position uint64) {
			r := drainmark.Record{Kind: kind, Log: "a"}
			if position > 0 {
				r.Target = drainmark.AtPosition(position)
			}
			receipt, err := s.Publish(s.Context(), r)
			if err != nil {
				s.Fatal(err)
			}
			s.state(receipt, time.Minute)
			synctest.Wait()
		}
		for _, text := range []string{"a1", "a2", "a3", "a4"} {
			s.append("a", text)
		}
		s.follow("a", 0).got(s, "a1", "a2", "a3", "a4")
		s.append("a", "a5")
		live := s.follow("a", 4) // so that the feed stays
		live.got(s, "a5")
		s.state(s.append("a", "a6"), time.Minute)
		remove(drainmark.Erase, 5)
		s.follow("a", 4).got(s, "", "a6")
		remove(drainmark.Trim, 5)
		s.follow("a", 0).got(s, "a6")
		remove(drainmark.Delete, 0)
		if _, err := s.Messages(s.Context(), "a", 0, 10, nil, 0); drainmark.KindOf(err) != drainmark.KindNotFound {
			t.Errorf("reading a deleted log: %v", err)
		}
		again := s.follow("a", 0)
		s.append("a", "a7")
		again.got(s, "a7")
		live.got(s, "a6", "a7")
	})
}
