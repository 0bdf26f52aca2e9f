package gate

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

const (
	// DefaultMaxDelay is the delay of a process from which on it has too much to do, where
	// nothing else says so.
	DefaultMaxDelay = 20 * time.Millisecond
	// shedWindow is the time that a budget is for. A caller may have all of its share at once: in
	// a longer window, everybody else would wait for that.
	shedWindow = 10 * time.Millisecond
	// slowWindows is how many windows in a row must be slow before anything is shed: fewer are a
	// collection of garbage, or a burst. calmWindows is how many must be calm before it ends.
	slowWindows, calmWindows = 5, 100
	// measuredWindows is how many windows show what can be done.
	measuredWindows = 10
	// stuckWindows is how many windows in a row must be slow with the least budget before
	// connections are held, and holdWindows how many there are until they are held for longer.
	stuckWindows, holdWindows = 25, 10
	// leastBudget is the smallest budget of a window.
	leastBudget = 4
	// bytesEach is how much of a body weighs as much as a request without one.
	bytesEach = 4 << 10
	// leastHold and mostHold bound the time of [Shedder.Hold]. The longest is what Retry-After
	// asks for: who waits as long is never held.
	leastHold, mostHold = 50 * time.Millisecond, time.Second
	// unknownWeight is that of a body that doesn't say how long it is.
	unknownWeight = 16
)

// ShedderConfig is what a [Shedder] is made from.
type ShedderConfig struct {
	// MaxDelay is the delay from which on requests are shed. Zero: [DefaultMaxDelay].
	MaxDelay time.Duration
	// Delay measures how long what comes in waits at the moment before anything sees it, which may
	// take as long as that. It is called by one goroutine. Required.
	Delay func() time.Duration
}

// Shedder bounds what callers have done while the process has more to do than it can: it gives
// each window of 10 ms a budget, by the delay, and shares it out. A caller whose requests come to
// less than the level of a window is served; who wants more is shed first. While the process
// keeps up, it costs one atomic read a request. Its methods may be called by any number of
// goroutines.
//
// It is the delay of the process that counts, not the time that requests take: an upstream that
// is slow sheds nobody.
type Shedder struct {
	config ShedderConfig
	active atomic.Bool

	overShare, overBudget atomic.Int64
	// hold is the time of [Shedder.Hold].
	hold atomic.Int64

	mu sync.Mutex
	// slow and calm count windows in a row.
	slow, calm int
	// measured counts the windows in which all is admitted, to see what can be done, and done is
	// what they had.
	measured int
	done     int64
	// stuck counts windows that were slow in spite of the least budget.
	stuck int
	// floor is half of what can be done in a window: shedding alone must not take all that the
	// process can do. 0: it isn't known yet.
	floor, budget int64
	// level is what each caller may have of the window, admitted what all have had.
	level, admitted int64
	// shed says that something of the window was.
	shed    bool
	callers map[uuid.UUID]*callerWindow
}

// callerWindow is what a caller wanted of a window, and was given.
type callerWindow struct{ wanted, given int64 }

// ShedCounts adds up what a shedder did since the process began.
type ShedCounts struct {
	// Active is 1 while there is more to do than can be done, otherwise 0.
	Active int64
	// OverShare counts requests of callers that had had their share of the window, OverBudget
	// those for which the window had no room although their caller had not.
	OverShare, OverBudget int64
}

// NewShedder makes a shedder that sheds nothing until it runs. It panics where a required field
// of the config is missing.
func NewShedder(config ShedderConfig) *Shedder {
	if config.Delay == nil {
		panic("gate: ShedderConfig.Delay is required")
	}
	config.MaxDelay = cmp.Or(config.MaxDelay, DefaultMaxDelay)
	return &Shedder{config: config, callers: map[uuid.UUID]*callerWindow{}}
}

// Run follows the delay until the context ends.
func (s *Shedder) Run(ctx context.Context) {
	// began is when the measurement began that is under way; 0: none is. A delay is known before
	// it is over: it is at least the age of that.
	var began, last atomic.Int64
	begun := time.Now()
	var measuring sync.WaitGroup
	defer measuring.Wait()
	measuring.Go(func() {
		each(ctx, func() {
			began.Store(int64(time.Since(begun)))
			last.Store(int64(s.config.Delay()))
			began.Store(0)
		})
	})
	each(ctx, func() {
		delay := time.Duration(last.Load())
		if at := began.Load(); at > 0 {
			delay = max(delay, time.Since(begun)-time.Duration(at))
		}
		s.next(delay)
	})
}

// each does something once a window until the context ends.
func each(ctx context.Context, do func()) {
	ticker := time.NewTicker(shedWindow)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			do()
		}
	}
}

// Active reports whether there is more to do than can be done. Nil is never active.
func (s *Shedder) Active() bool { return s != nil && s.active.Load() }

// Counts returns what it did.
func (s *Shedder) Counts() ShedCounts {
	c := ShedCounts{OverShare: s.overShare.Load(), OverBudget: s.overBudget.Load()}
	if s.Active() {
		c.Active = 1
	}
	return c
}

// Admit reports whether a request of a caller is served; length is that of its body in bytes,
// -1 where it isn't known. One that isn't served has counted nothing: the answer is [Overloaded].
func (s *Shedder) Admit(caller uuid.UUID, length int64) bool {
	if !s.Active() {
		return true
	}
	weight := int64(unknownWeight)
	if length >= 0 {
		weight = 1 + length/bytesEach
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.callers[caller]
	if c == nil {
		c = &callerWindow{}
		s.callers[caller] = c
	}
	c.wanted += weight
	switch {
	case s.floor == 0:
		// What can be done isn't known yet.
	case c.given > 0 && c.given+weight > s.level:
		s.overShare.Add(1)
		s.shed = true
		return false
	case s.admitted >= s.most(c.given == 0):
		s.overBudget.Add(1)
		s.shed = true
		return false
	}
	c.given += weight
	s.admitted += weight
	return true
}

// Hold is how long a connection on which a request was shed should not be read from, once the
// answer is out: 0 unless shedding alone doesn't suffice. An answer costs about as much as what
// it refuses where that is cheap, so a caller who asks again at once would take all there is.
func (s *Shedder) Hold() time.Duration { return time.Duration(s.hold.Load()) }

// most is the most that a window admits. It is more than the budget, as the level is made from
// what callers wanted of the window before, and some may want more of this one; for the first
// request of a caller it is more again, so that who sends little isn't refused for others.
func (s *Shedder) most(first bool) int64 {
	if first {
		return 2 * s.budget
	}
	return s.budget + s.budget/4
}

// next ends a window with the delay that was seen in it, and begins another.
func (s *Shedder) next(delay time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tooSlow := delay > s.config.MaxDelay
	if !s.active.Load() {
		s.slow++
		if !tooSlow {
			s.slow = 0
		}
		if s.slow >= slowWindows {
			s.slow, s.calm, s.measured, s.done, s.stuck, s.floor = 0, 0, 0, 0, 0, 0
			s.active.Store(true)
		}
		return
	}
	s.adjust(delay)
	s.adjustHold(tooSlow)
	s.calm++
	if tooSlow || s.shed {
		s.calm = 0
	}
	if s.calm >= calmWindows {
		s.active.Store(false)
		s.hold.Store(0)
		clear(s.callers)
	}
	s.share()
}

// adjust finds the next window's budget.
func (s *Shedder) adjust(delay time.Duration) {
	switch {
	case s.floor == 0:
		s.done += s.admitted
		if s.measured++; s.measured == measuredWindows {
			s.floor = max(leastBudget, s.done/(2*measuredWindows))
			// What waits already must be done, too.
			s.budget = s.floor
		}
	case delay > s.config.MaxDelay:
		// A budget that isn't used up says nothing of what can be done.
		used := min(s.budget, s.admitted)
		s.budget = max(s.floor, used-used/10)
	case s.shed && delay < s.config.MaxDelay/2:
		s.budget += max(1, s.budget/32)
	}
}

// adjustHold finds how long connections are held.
func (s *Shedder) adjustHold(tooSlow bool) {
	held := s.hold.Load()
	if !tooSlow {
		s.stuck = 0
		held -= held / 64
		if held < int64(leastHold) {
			held = 0
		}
		s.hold.Store(held)
		return
	}
	if s.floor > 0 && s.budget == s.floor {
		s.stuck++
	}
	if s.stuck >= stuckWindows {
		s.stuck -= holdWindows
		s.hold.Store(min(int64(mostHold), max(int64(leastHold), 2*held)))
	}
}

// share finds the level of the next window: the highest with which what the callers wanted of
// this one, each up to the level, fits into the budget.
func (s *Shedder) share() {
	wanted := make([]int64, 0, len(s.callers))
	for id, c := range s.callers {
		if c.wanted == 0 {
			delete(s.callers, id)
			continue
		}
		wanted = append(wanted, c.wanted)
		*c = callerWindow{}
	}
	slices.Sort(wanted)
	left := s.budget
	s.level = left
	for i, w := range wanted {
		equal := left / int64(len(wanted)-i)
		s.level = max(1, equal)
		if w > equal {
			break
		}
		left -= w
		s.level = max(1, left)
	}
	s.admitted, s.shed = 0, false
}
