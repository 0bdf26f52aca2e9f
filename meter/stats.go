package meter

import (
	"math"
	"sync/atomic"
)

// Counts adds up a meter's decisions since the process began. Each counts
// requests, not quantities.
type Counts struct {
	// Admitted counts what was allowed, OverLimit included.
	Admitted int64
	// Refused counts what a hard limit refused.
	Refused int64
	// OverLimit counts what a soft limit flagged.
	OverLimit int64
	// Unloaded counts what was allowed because the store could not be asked (C5).
	Unloaded int64
}

// stripes spread a counter that every core writes over several cache lines.
const stripes = 16

type stats struct {
	meters                         [][stripes]stripe
	unleased, unjournalled, waited atomic.Int64
	conflicts, sentAgain, missing  atomic.Int64
	redated, forgotten             atomic.Int64
}

// Totals adds up what a meter did out of the ordinary since the process began.
type Totals struct {
	// Unleased is the quantity that was used under hard limits while leases could not
	// be had (C5): what was admitted and given back is not in it. It stays at the largest int64.
	Unleased int64
	// Unjournalled counts the reports that were counted although the journal could not
	// keep them.
	Unjournalled int64
	// Waited counts the requests that waited for quota.
	Waited int64
	// Conflicts counts the reports that were acknowledged and not counted, since another
	// instance had taken their key with other ones.
	Conflicts int64
	// SentAgain counts the batches that the store had lost and got again, Missing those that
	// nobody could send again.
	SentAgain, Missing int64
	// Redated counts the reservations that were moved from a day that has passed to a later one.
	Redated int64
	// Forgotten counts the organizations that left memory ([FlusherConfig.IdleAfter]).
	Forgotten int64
}

// Totals returns what the meter did so far.
func (m *Meter) Totals() Totals {
	return Totals{
		Unleased: m.stats.unleased.Load(), Unjournalled: m.stats.unjournalled.Load(), Waited: m.stats.waited.Load(),
		Conflicts: m.stats.conflicts.Load(), SentAgain: m.stats.sentAgain.Load(), Missing: m.stats.missing.Load(),
		Redated: m.stats.redated.Load(), Forgotten: m.stats.forgotten.Load(),
	}
}

type stripe struct {
	admitted, refused, overLimit, unloaded atomic.Int64
	_                                      [32]byte
}

func (s *stats) count(i Index, allowed, overLimit, loaded bool) {
	c := &s.meters[i][stripeHere(stripes)]
	if !allowed {
		c.refused.Add(1)
		return
	}
	c.admitted.Add(1)
	if overLimit {
		c.overLimit.Add(1)
	}
	if !loaded {
		c.unloaded.Add(1)
	}
}

// addUpTo adds to a counter of quantities, which stays at the largest number.
func addUpTo(counter *atomic.Int64, quantity int64) {
	for {
		was := counter.Load()
		if counter.CompareAndSwap(was, was+min(quantity, math.MaxInt64-was)) {
			return
		}
	}
}

func (s *stats) read(i Index) Counts {
	var out Counts
	for j := range s.meters[i] {
		c := &s.meters[i][j]
		out.Admitted += c.admitted.Load()
		out.Refused += c.refused.Load()
		out.OverLimit += c.overLimit.Load()
		out.Unloaded += c.unloaded.Load()
	}
	return out
}
