package gate

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const (
	fast = time.Millisecond
	slow = time.Second
)

// caller is the n-th caller of a test.
func caller(n int) uuid.UUID { return uuid.UUID{15: byte(n + 1)} }

// overloadedBy makes a shedder shed: in each window in which it looks what can be done, so much
// was.
func overloadedBy(done int) *Shedder {
	s := NewShedder(ShedderConfig{Delay: func() time.Duration { return 0 }})
	for range slowWindows {
		s.next(slow)
	}
	for range measuredWindows {
		for range done {
			s.Admit(caller(0), 0)
		}
		s.next(slow)
	}
	return s
}

func TestNothingIsShedWhileTheProcessKeepsUp(t *testing.T) {
	t.Parallel()
	s := NewShedder(ShedderConfig{Delay: func() time.Duration { return 0 }})
	for range 100 {
		// One slow window is a collection of garbage.
		s.next(slow)
		s.next(fast)
		require.True(t, s.Admit(caller(0), 0))
		require.False(t, s.Active())
	}
	var none *Shedder
	require.False(t, none.Active())
}

func TestSheddingBeginsAndEnds(t *testing.T) {
	t.Parallel()
	s := overloadedBy(1000)
	served := 0
	for range 2000 {
		if s.Admit(caller(0), 0) {
			served++
		}
	}
	require.InDelta(t, 500, served, 50, "half of what can be done at least")
	require.Equal(t, int64(2000-served), s.Counts().OverShare)
	for range 100 {
		s.next(slow)
	}
	require.Equal(t, mostHold, s.Hold())
	require.GreaterOrEqual(t, s.budget, int64(500), "a delay that stays takes no more")
	for range calmWindows {
		s.next(fast)
	}
	require.False(t, s.Active())
	require.Zero(t, s.Hold())
	require.Zero(t, s.Counts().Active)
}

// TestBodiesWeigh holds that a caller of large bodies has no more of the process than others.
func TestBodiesWeigh(t *testing.T) {
	t.Parallel()
	s := overloadedBy(400)
	for range 1000 {
		s.Admit(caller(0), 0)
		s.Admit(caller(1), 9*bytesEach)
	}
	s.next(slow)
	served := [2]int{}
	for range 1000 {
		for n, length := range []int64{0, 9 * bytesEach} {
			if s.Admit(caller(n), length) {
				served[n]++
			}
		}
	}
	require.InDelta(t, served[0], 10*served[1], 10)
	require.True(t, s.Admit(caller(2), 1<<30), "what is larger than a share is served, one at a time")
}

// TestSharesAreFair holds the laws of a window, whatever callers there are and whatever they
// want.
func TestSharesAreFair(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := overloadedBy(rapid.IntRange(0, 500).Draw(t, "done"))
		n := rapid.IntRange(1, 12).Draw(t, "callers")
		for range rapid.IntRange(2, 6).Draw(t, "windows") {
			given, shed := make([]int64, n), make([]bool, n)
			budget, level, over := s.budget, s.level, s.overBudget.Load()
			wanted := rapid.SliceOfN(rapid.IntRange(0, n-1), 0, 1500).Draw(t, "wanted")
			for _, who := range wanted {
				if s.Admit(caller(who), 0) {
					given[who]++
				} else {
					shed[who] = true
				}
			}
			var total int64
			for who := range given {
				total += given[who]
				if given[who] > max(1, level) {
					t.Fatalf("a caller has %d of a window whose level is %d", given[who], level)
				}
				if shed[who] && given[who] < level && s.overBudget.Load() == over {
					t.Fatalf("a caller that had %d of %d was shed while there was room", given[who], level)
				}
			}
			if total > 2*budget {
				t.Fatalf("%d were admitted, the budget is %d", total, budget)
			}
			s.next(rapid.SampledFrom([]time.Duration{fast, slow}).Draw(t, "delay"))
			// What the level gives, if all want the same again, is no more than the budget.
			var would int64
			for who := range given {
				want := int64(0)
				for _, w := range wanted {
					if w == who {
						want++
					}
				}
				would += min(want, s.level)
			}
			if s.Active() && would > max(s.budget, int64(n)) {
				t.Fatalf("the level %d comes to %d, the budget is %d", s.level, would, s.budget)
			}
		}
	})
}

// TestAFloodLeavesThePoliteAlone holds it in a model of a server whose answers cost the same
// whether they serve or shed: 2,000 connections of one caller, each with a request as soon as it
// has its answer, and another caller that sends 100 a second.
func TestAFloodLeavesThePoliteAlone(t *testing.T) {
	t.Parallel()
	const (
		cost   = 125 * time.Microsecond
		second = 8
	)
	s := NewShedder(ShedderConfig{Delay: func() time.Duration { return 0 }})
	type request struct {
		at     time.Duration
		polite bool
	}
	queue := slices.Repeat([]request{{}}, 2000)
	var held []request
	var polite []time.Duration
	served, politeShed := 0, 0
	window, nextPolite := shedWindow, time.Duration(0)
	for now := time.Duration(0); now < second*time.Second; now += cost {
		for nextPolite <= now {
			queue = append(queue, request{nextPolite, true})
			nextPolite += 10 * time.Millisecond
		}
		for len(held) > 0 && held[0].at <= now {
			queue, held = append(queue, held[0]), held[1:]
		}
		if now >= window {
			s.next(time.Duration(len(queue)) * cost)
			window = now + shedWindow
		}
		if len(queue) == 0 {
			continue
		}
		one := queue[0]
		queue = queue[1:]
		id := 0
		if one.polite {
			id = 1
		}
		admitted := s.Admit(caller(id), 0)
		late := now > 3*time.Second
		switch {
		case one.polite && late && !admitted:
			politeShed++
		case one.polite && late:
			polite = append(polite, now+cost-one.at)
		case one.polite:
		case admitted:
			queue = append(queue, request{at: now})
			served++
		default:
			held = append(held, request{at: now + s.Hold()})
			slices.SortFunc(held, func(a, b request) int { return int(a.at - b.at) })
		}
	}
	slices.Sort(polite)
	p99 := polite[len(polite)*99/100]
	require.Less(t, p99, 100*time.Millisecond)
	require.Zero(t, politeShed)
	require.Greater(t, served, second*2000, "a quarter of what the server can do goes to the flood at least")
}
