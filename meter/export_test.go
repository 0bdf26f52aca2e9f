package meter

import (
	"context"
	"math"
	"time"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// WithManualLeases returns a config of a meter that calls for leases only in KeepLeases.
func WithManualLeases(c Config) Config {
	c.manualLeases = true
	return c
}

// KeepLeases makes the calls for leases that are due.
func KeepLeases(m *Meter) {
	// Those that the store could not decide on are apart.
	for range 2 {
		if batch, done := m.keeper.take(); len(batch) > 0 {
			m.keeper.ask(context.Background(), batch)
			done()
		}
	}
}

// AdmitManually is Admit where the calls for leases are made in between, rounds times at
// most.
func AdmitManually(o *Organization, i Index, quantity int64, now time.Time, rounds int) (plans.Decision, Reservation) {
	var wanted want
	defer wanted.drop()
	for round := 0; ; round++ {
		o = InPlace(o)
		d, r, q, v := o.reserve(i, wishNow(quantity, now))
		if v != short || round == rounds {
			return d, r
		}
		wanted.waitFor(q, quantity)
		KeepLeases(o.meter)
	}
}

// UseManually is Use where the calls for leases are made in between, rounds times at most.
func UseManually(o *Organization, i Index, quantity int64, now time.Time, rounds int, pace Pace) (out Outcome, atOnce bool, err error) {
	o = InPlace(o)
	if done, err := o.useAtOnce(i, quantity, now.UnixNano(), pace, &out); done {
		return out, true, err
	}
	out, err = AdmitAndCommit(o, i, quantity, now, rounds, pace)
	return out, false, err
}

// AdmitAndCommit is what Use does in one step, in two, with the calls for leases in between.
func AdmitAndCommit(o *Organization, i Index, quantity int64, now time.Time, rounds int, pace Pace) (out Outcome, err error) {
	d, r := AdmitManually(o, i, quantity, now, rounds)
	o = InPlace(o)
	out = Outcome{Decision: d, Plan: o.Plan().Key, Window: r.Window()}
	if !r.Held() {
		return out, nil
	}
	if pace != nil && !pace(o.Plan().RateLimit, r.At()) {
		r.Release()
		return Outcome{}, ErrPaced
	}
	if err := r.TryCommit(); err != nil {
		return Outcome{}, err
	}
	return out, nil
}

// ForgetIdle forgets the organizations that rest, as if they had been idle for long. Leases that are to
// be given back are, with as many calls.
func ForgetIdle(f *Flusher, calls int) {
	for range calls + 1 {
		f.mu.Lock()
		f.idle.leaving = map[*Organization]struct{}{}
		f.config.Meter.orgs.each(func(o *Organization) { f.idle.leaving[o] = struct{}{} })
		f.idle.since = f.config.Now()
		f.config.IdleAfter = math.MaxInt64
		f.mu.Unlock()
		f.forgetIdle()
		if f.config.Meter.keeper != nil {
			KeepLeases(f.config.Meter)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.idle.leaving = nil
}

// InPlace returns the organization that counts in the place of one that may have left memory.
func InPlace(o *Organization) *Organization {
	for o.Forgotten() {
		next, err := o.meter.Organization(context.Background(), o.id, time.Time{})
		if err != nil {
			panic(err)
		}
		o = next
	}
	return o
}

// Reserve is Admit that waits for nothing: where quota is short, it refuses.
func (o *Organization) Reserve(i Index, quantity int64, now time.Time) (plans.Decision, Reservation) {
	d, r, _, v := o.reserve(i, wishNow(quantity, now))
	if v != decided {
		o.meter.stats.count(i, d.Allowed, d.OverLimit, o.Loaded())
	}
	return d, r
}

// Consume reserves and commits in one step. The window is the one in which the quantity
// was decided upon.
func (o *Organization) Consume(i Index, quantity int64, now time.Time) (plans.Decision, calendar.Window) {
	d, r := o.Reserve(i, quantity, now)
	if !d.Allowed {
		return d, o.Usage(i, now).Window
	}
	window := r.Window()
	r.Commit()
	return d, window
}

// Report is ReportKnown that looks for the report's identity itself.
func (o *Organization) Report(ctx context.Context, r Report) (Outcome, error) {
	var known KnownSet
	if r.Identity != (Identity{}) {
		known = o.Known(ctx, []Identity{r.Identity})
	}
	return o.ReportKnown(ctx, r, known)
}

// WaitForLoads waits for the loads in the background.
func WaitForLoads(m *Meter) { m.background.Wait() }

// NewTestRefresher makes one whose catalog is what is in force already.
func NewTestRefresher(m *Meter, now func() time.Time) *Refresher {
	return NewRefresher(RefresherConfig{
		Meter: m, Now: now,
		Catalog: func(context.Context) (*plans.Catalog, Seen, error) { return m.Catalog(), Seen{}, nil },
	})
}

// DayOfOpen returns the day that an open reservation counts for now.
func DayOfOpen(o *OpenReservation) calendar.Day {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.reservation.day
}

// State is all that a slot knows, and its lease.
type State struct {
	Usage                  Usage
	used, known, dayEnd    int64
	windowStart, windowEnd calendar.Day
	current                dayUsage
	listed, forgotten      bool
	older                  int
	quotas                 []quota
}

// StateOf returns what a slot knows.
func StateOf(o *Organization, i Index, now time.Time) State {
	usage, s := o.Usage(i, now), o.slot(i)
	s.lock()
	defer s.mu.Unlock()
	state := State{
		Usage: usage, used: s.used, known: s.known, dayEnd: s.dayEnd, windowStart: s.windowStart, windowEnd: s.windowEnd,
		current: s.current, listed: s.epoch.Load() != 0, forgotten: o.Forgotten(),
	}
	if s.rare != nil {
		state.older = len(s.rare.older)
	}
	s.eachQuota(func(q *quota) {
		one := *q
		one.slot, one.woken = nil, nil
		// Stamps are compared with others alone.
		one.generation, one.strictSince, one.adoptedAt = 0, 0, 0
		state.quotas = append(state.quotas, one)
	})
	return state
}

// CrowdAfter is what a crowd is of a meter that holds so many at most, once the store has taken n in a time.
func CrowdAfter(most int, n int64, took time.Duration) int64 {
	var c crowd
	c.begin(most)
	c.pace(n, took)
	return c.many.Load()
}
