package backend

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/drainmark/drainmark"
)

// ErrTooSlow ends a subscription that has fallen behind by more than Limits.SubscriberLag messages.
var ErrTooSlow = errors.New("the subscriber is too slow")

// subscriptionBytes is about how many bytes of messages a subscription returns at once, so that a slow caller holds
// few.
const subscriptionBytes = 64 << 10

// subscription is a position in a feed.
type subscription struct {
	backend  *Backend
	feed     *feed
	position uint64
	live     bool                               // it has once caught up
	average  int                                // bytes of a message that was read from the store, 0 before the first
	largest  int                                // bytes that were more than it had room for
	held     int64                              // of the room that all subscribers have
	share    func(context.Context, int64) error // of its owner, nil if there is none
	left     sync.Once
}

// Next implements Subscription.
func (s *subscription) Next(ctx context.Context) ([]drainmark.Message, error) {
	s.release() // who waits holds nothing
	for {
		s.feed.mu.Lock()
		ready, last, stored, kept := s.feed.ready, s.feed.last, s.feed.stored, s.feed.messages
		changed := s.feed.changed
		s.feed.mu.Unlock()
		switch {
		case !ready:
		case s.position >= last:
			s.live = true
		case s.position < stored || s.keeps(kept): // else the store has lost its tail, and will get it again
			position := s.position
			messages, err := s.counted(ctx, last, kept)
			s.live = s.live || s.position >= last
			if err != nil || len(messages) > 0 {
				return messages, err
			}
			if s.position > position { // the messages between have been cleared
				continue
			}
		}
		select {
		case <-changed:
		case <-s.backend.feeds.stopped:
			return nil, drainmark.Errorf(drainmark.KindUnavailable, "this backend is shutting down")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// counted is behind, within the room that all subscribers have. It does not wait while it holds messages: if they need
// more than it has, it drops them, waits for as much, and reads them again.
func (s *subscription) counted(ctx context.Context, last uint64, kept []drainmark.Message) ([]drainmark.Message, error) {
	a := s.backend.answers
	for {
		room := min(int64(max(s.largest, subscriptionBytes)+answerBuffer), a.room)
		if err := s.acquire(ctx, room); err != nil {
			return nil, err
		}
		position := s.position
		messages, err := s.behind(ctx, last, kept)
		size := 0
		for i := range messages {
			size += memoryOf(&messages[i])
		}
		if len(messages) > 0 && (size+answerBuffer <= int(room) || room == a.room) {
			return messages, nil
		}
		s.release()
		if err != nil || len(messages) == 0 {
			return nil, err
		}
		s.position, s.largest = position, size
	}
}

// Share implements Subscription.
func (s *subscription) Share(hold func(context.Context, int64) error) { s.share = hold }

// acquire waits for room: in the owner's share first, so that who has too much keeps nobody else waiting.
func (s *subscription) acquire(ctx context.Context, room int64) error {
	if s.share != nil {
		if err := s.share(ctx, room); err != nil {
			return err
		}
	}
	if err := s.backend.answers.streams.Acquire(ctx, room); err != nil {
		s.release()
		return err
	}
	s.held = room
	return nil
}

// release gives back the room of what was returned last.
func (s *subscription) release() {
	s.backend.answers.streams.Release(s.held)
	s.held = 0
	if s.share != nil {
		_ = s.share(context.Background(), 0) // which waits for nothing
	}
}

// behind returns messages for a subscriber that lacks some: from memory, or from the store if they are older. It
// returns none, and moves the position on, if they have been cleared.
func (s *subscription) behind(ctx context.Context, last uint64, kept []drainmark.Message) ([]drainmark.Message, error) {
	if s.live && last-s.position > s.backend.limits.SubscriberLag {
		return nil, ErrTooSlow
	}
	if s.keeps(kept) {
		return s.take(kept[s.position+1-kept[0].Position:]), nil
	}
	limit := 1
	if s.average > 0 {
		limit = min(max(subscriptionBytes/s.average, 1), feedPage)
	}
	done, err := s.backend.answers.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	page, err := s.backend.read(ctx, s.feed.log, s.position, limit)
	if err != nil {
		return nil, err
	}
	s.position = max(s.position, page.Log.ClearedThrough)
	if n := len(page.Messages); n > 0 {
		total := 0
		for i := range page.Messages {
			total += memoryOf(&page.Messages[i])
		}
		s.average = total / n
	}
	return s.take(page.Messages), nil
}

// keeps says whether what the feed keeps in memory has the next message.
func (s *subscription) keeps(kept []drainmark.Message) bool {
	return len(kept) > 0 && s.position+1 >= kept[0].Position
}

// take moves the position behind the first messages, about subscriptionBytes of them, and returns a copy, because a
// part of the array would keep the whole array alive.
func (s *subscription) take(messages []drainmark.Message) []drainmark.Message {
	if len(messages) == 0 {
		return nil
	}
	n, size := 1, memoryOf(&messages[0])
	for n < min(len(messages), feedPage) {
		if size += memoryOf(&messages[n]); size > subscriptionBytes {
			break
		}
		n++
	}
	s.position = messages[n-1].Position
	return slices.Clone(messages[:n])
}

// Close implements Subscription.
func (s *subscription) Close() {
	s.left.Do(func() {
		s.release()
		s.backend.feeds.leave(s.feed)
	})
}
