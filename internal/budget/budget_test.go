package budget

import (
	"sync"
	"testing"
)

func TestABudgetGivesAllOrNothing(t *testing.T) {
	t.Parallel()
	b := New(10)
	for i, step := range []struct {
		take, give int64
		ok         bool
		used       int64
		full       bool
	}{
		{take: 6, ok: true, used: 6},
		{take: 5, used: 6, full: true},
		{give: 1, used: 5}, // what was refused would fit now
		{take: 5, ok: true, used: 10},
		{take: 1, used: 10, full: true},
		{give: 10},
		{take: 10, ok: true, used: 10},
	} {
		if step.give > 0 {
			b.Give(step.give)
		} else if ok := b.Take(step.take); ok != step.ok {
			t.Errorf("step %d: took %v", i, ok)
		}
		if b.Used() != step.used || b.Full() != step.full || b.Limit() != 10 {
			t.Errorf("step %d: %d of %d used, full: %v", i, b.Used(), b.Limit(), b.Full())
		}
	}
}

func TestABudgetIsFullForWhoNeedsMoreThanThereIs(t *testing.T) {
	t.Parallel()
	b := New(10)
	b.Take(3)
	if !b.Grow(0, 4) || b.Grow(4, 8) {
		t.Fatal("7 of 10 are used, and there is room for 4 more")
	}
	b.Give(4)
	if !b.Full() { // it would need 8, and there are 7
		t.Error("it is not full")
	}
	b.Give(3)
	if b.Full() {
		t.Error("it is full, and nothing is used")
	}
}

func TestABudgetIsNeverOverdrawn(t *testing.T) {
	t.Parallel()
	b := New(100)
	var running sync.WaitGroup
	for range 20 {
		running.Go(func() {
			for range 1000 {
				if b.Take(30) {
					if used := b.Used(); used < 30 {
						t.Errorf("%d used", used)
					}
					b.Give(30)
				}
			}
		})
	}
	running.Wait()
	if b.Used() != 0 {
		t.Errorf("%d used in the end", b.Used())
	}
}
