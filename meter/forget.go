package meter

import (
	"errors"
	"math"
	"time"

	"github.com/riverline/tollgate/plans"
)

// forgotten is the time of the next plan of an organization that has left memory: no decision is
// before it, so that it costs those of others nothing to find out.
const forgotten = math.MinInt64

// errForgotten says that the organization has left memory: the caller's is not the one that counts.
var errForgotten = errors.New("the organization has left memory")

// Forgotten reports whether the organization has left memory, because it was idle. What is asked of it
// is answered by the one in its place, which is loaded again.
func (o *Organization) Forgotten() bool { return o.switchAt.Load() == forgotten }

// switchOn notes when the next plan begins. The caller holds planMu, or nobody else knows the
// organization.
func (o *Organization) switchOn(at int64) {
	if !o.Forgotten() {
		o.switchAt.Store(at)
	}
}

// rest says whether something can leave memory.
type rest int

const (
	// resting: the store has all that is known of it.
	resting rest = iota
	// giving: it rests once its leases are given back.
	giving
	// busy: something is open, pending or on its way.
	busy
)

// letGo forgets an organization of which the store has all that there is, and gives back its leases
// where that is yet to be done. Nothing that was drained may wait for the store meanwhile. Who has found
// the organization before finds out with the lock of a slot, before anything is decided.
func (m *Meter) letGo(o *Organization) rest {
	if o.stale.Load() || !o.Loaded() || !o.reading.TryLock() {
		return busy
	}
	defer o.reading.Unlock()
	m.catalogMu.RLock()
	defer m.catalogMu.RUnlock()
	o.planMu.Lock()
	defer o.planMu.Unlock()
	o.slotMu.Lock()
	defer o.slotMu.Unlock()
	found := resting
	for _, s := range o.slots() {
		s.lock()
		found = max(found, s.rests())
	}
	defer func() {
		for _, s := range o.slots() {
			s.mu.Unlock()
		}
	}()
	switch found {
	case giving:
		for _, s := range o.slots() {
			s.eachQuota((*quota).giveBackFree)
		}
	case resting:
		o.switchAt.Store(forgotten)
		m.orgs.remove(o)
		m.stats.forgotten.Add(1)
	case busy:
	}
	return found
}

// rests reports whether the store has all that is known of the slot, or would give it back.
func (s *slot) rests() rest {
	switch {
	case s.epoch.Load() != 0, s.noted.Load(), !s.current.rests():
		return busy
	case s.meter.Aggregation == plans.Last && s.current.at != 0:
		// A later report may be of an earlier time, which only memory tells.
		return busy
	case s.rare != nil && !s.rare.rests():
		return busy
	}
	found := resting
	s.eachQuota(func(q *quota) { found = max(found, q.rests()) })
	return found
}

// rests reports whether nothing is open or pending.
func (d *dayUsage) rests() bool { return d.open == 0 && d.held == 0 && !d.has && d.reports == 0 }

// rests reports whether nothing is left that the store doesn't have.
func (x *rare) rests() bool {
	for i := range x.older {
		if !x.older[i].rests() {
			return false
		}
	}
	return len(x.identified) == 0 && len(x.full) == 0 && x.levelAt == 0 && x.heldInStore == 0 && x.carried == Leased{}
}

// rests reports whether the store knows that all of the quota that was issued is consumed.
func (q *quota) rests() rest {
	switch {
	case q.wanted != 0, q.held != 0, q.pending != 0, q.spent != q.consumed, q.adopted != q.booked, q.changing, q.refusedUntil != 0:
		return busy
	case q.free != 0, q.queued, q.asking, q.recalled, q.looks, q.surrenders, q.void:
		return giving
	default:
		return resting
	}
}

// forgetAtOnce bounds how many organizations one flush lets go: each may have leases to give back.
const forgetAtOnce = 10_000

// idleness finds the organizations of which no usage is written for a time.
type idleness struct {
	// since is when the period began. Unused are the organizations that were in memory then and of
	// which none was written since, leaving those of which none was for the whole period before.
	since           time.Time
	unused, leaving map[*Organization]struct{}
}

// use notes that usage of an organization was written.
func (i *idleness) use(o *Organization) {
	delete(i.unused, o)
	delete(i.leaving, o)
}

// forgetIdle lets go organizations that were idle.
func (f *Flusher) forgetIdle() {
	if f.config.IdleAfter == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.config.Meter
	if len(f.retained) > 0 || f.rewinding || m.LeasesAway() != nil {
		return
	}
	if now := f.config.Now(); now.Sub(f.idle.since) >= f.config.IdleAfter {
		f.idle.since, f.idle.leaving = now, f.idle.unused
		f.idle.unused = make(map[*Organization]struct{}, m.orgs.len())
		m.orgs.each(func(o *Organization) { f.idle.unused[o] = struct{}{} })
	}
	tried := 0
	for o := range f.idle.leaving {
		if tried++; tried > forgetAtOnce {
			return
		}
		switch m.letGo(o) {
		case resting:
			f.idle.use(o)
		case busy:
			delete(f.idle.leaving, o)
		case giving:
		}
	}
}
