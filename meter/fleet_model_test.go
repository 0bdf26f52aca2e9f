package meter_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

// fleet is a few instances on one store, and the account of what was acknowledged.
type fleet struct {
	t       *rapid.T
	store   *metertest.Store
	catalog *plans.Catalog
	clock   *clock
	ids     []uuid.UUID
	members []*member
	dead    []*memoryJournal
	// gone are those whose journal was replayed.
	gone   []*memoryJournal
	backup *metertest.Backup
	// forgotten are the instances of which the store may have lost something, since it has gone back
	// in time; restores counts how often it has.
	forgotten map[uuid.UUID]bool
	restores  int
	// acknowledged is what must be in the store in the end.
	acknowledged map[usageKey]int64
	// counted are the identities that were acknowledged, with the plans that may price them:
	// of the instances that took the report at once, the first to flush decides.
	counted map[metertest.IdentityKey]map[metertest.PricedBy]bool
	// segments are what the journals had of batches that were acknowledged.
	segments map[meter.BatchID][]meter.Record
	// strict says that nothing happens that may pass a limit: no lost instance, no store away,
	// and each change of a plan is taken over by all.
	strict bool
	// answering says that the store always answers, and sometimes refuses: then no limit may open,
	// though the settings let usage in where the store is away.
	answering bool
	// forced is, for each organization, what was true when its last change was in force
	// everywhere.
	forced []forced
	// unknown is what instances that died had admitted without a lease.
	unknown []meter.Record
}

// fleetCatalog has a plan with hard limits of a day and of a month, one with higher ones
// and a limit whose window differs, and one with soft ones.
func fleetCatalog() *plans.Catalog {
	meters := []plans.Meter{
		{Key: "daily", Name: "Daily", Aggregation: plans.Sum, Unit: "call"},
		{Key: "monthly", Name: "Monthly", Aggregation: plans.Sum, Unit: "call"},
	}
	limits := func(mode plans.Mode, daily, monthly int64, second calendar.WindowKind) []plans.Entitlement {
		return []plans.Entitlement{
			{Meter: "daily", Mode: mode, Window: calendar.WindowDay, Max: daily},
			{Meter: "monthly", Mode: mode, Window: second, Max: monthly},
		}
	}
	return &plans.Catalog{Meters: meters, Plans: []plans.Plan{
		{Key: "free", Version: 1, Name: "Free", Entitlements: limits(plans.Hard, 20, 30, calendar.WindowMonth)},
		{Key: "plus", Version: 1, Name: "Plus", Entitlements: limits(plans.Hard, 40, 15, calendar.WindowDay)},
		{Key: "pro", Version: 1, Name: "Pro", Entitlements: limits(plans.Soft, 5, 5, calendar.WindowDay)},
	}}
}

func newFleet(t *rapid.T, strict, answering bool) *fleet {
	f := &fleet{
		t: t, store: metertest.NewStore(), catalog: fleetCatalog(), strict: strict, answering: answering,
		clock:        &clock{now: time.Date(2026, 11, 29, 20, 0, 0, 0, time.UTC)},
		acknowledged: map[usageKey]int64{}, counted: map[metertest.IdentityKey]map[metertest.PricedBy]bool{},
		segments: map[meter.BatchID][]meter.Record{}, forgotten: map[uuid.UUID]bool{},
	}
	require.NoError(t, f.catalog.Validate())
	f.ids = []uuid.UUID{f.store.Add("free"), f.store.Add("free")}
	f.forced = make([]forced, len(f.ids))
	for _, id := range f.ids {
		f.store.Terms[id] = []meter.Term{{Plan: "free", Version: 1, From: f.clock.Now().AddDate(0, 0, -1)}}
	}
	for range 3 {
		f.start()
	}
	return f
}

func (f *fleet) request(t *rapid.T, hold bool) {
	m := f.member(t)
	n, o := f.organization(t, m)
	index := rapid.IntRange(0, 1).Draw(t, "meter")
	if rapid.IntRange(0, 3).Draw(t, "forgotten meanwhile") == 0 {
		f.rest(t, m)
	}
	f.admit(t, m, o, n, index, rapid.IntRange(0, 3).Draw(t, "rounds"), hold, f.clock.Now())
}

// admit has a member decide on a request of a caller that has read the clock at a time.
func (f *fleet) admit(t *rapid.T, m *member, o *meter.Organization, n, index, rounds int, hold bool, asked time.Time) {
	quantity := rapid.Int64Range(1, 9).Draw(t, "quantity")
	if !hold && rapid.Bool().Draw(t, "in one step") {
		f.use(t, m, o, n, index, rounds, quantity, asked)
		return
	}
	d, r := meter.AdmitManually(o, meter.Index(index), quantity, asked, rounds)
	o = meter.InPlace(o)
	plan := o.Plan()
	f.requirePlanOfNow(t, m, n, o)
	if !d.Allowed {
		require.False(t, r.Held())
		require.Equal(t, max(0, d.Max-d.Current-d.Held), d.Remaining)
		return
	}
	require.True(t, plan.Key != "" || !o.Loaded(), "without a contract nothing is admitted")
	key := usageKey{n, index, calendar.DayOf(f.clock.Now()), metertest.PricedBy{Plan: plan.Key, Version: plan.Version}}
	if hold {
		m.held = append(m.held, heldUsage{key, quantity, m.meter.KeepOpen(r, f.clock.Now()), f.clock.Now()})
		return
	}
	r.Commit()
	f.acknowledged[key] += quantity
}

// use has a member decide and count in one step.
func (f *fleet) use(t *rapid.T, m *member, o *meter.Organization, n, index, rounds int, quantity int64, asked time.Time) {
	out, _, err := meter.UseManually(o, meter.Index(index), quantity, asked, rounds, nil)
	require.NoError(t, err)
	o = meter.InPlace(o)
	plan := o.Plan()
	f.requirePlanOfNow(t, m, n, o)
	require.Equal(t, plan.Key, out.Plan)
	if !out.Decision.Allowed {
		return
	}
	require.True(t, out.Window.Contains(f.clock.Now()))
	f.acknowledged[usageKey{n, index, calendar.DayOf(f.clock.Now()), metertest.PricedBy{Plan: plan.Key, Version: plan.Version}}] += quantity
}

// stop stops a member with a request under way, for longer than its leases are its own. Others
// use what it had, and it goes on with the time of before.
func (f *fleet) stop(t *rapid.T) {
	m := f.member(t)
	n, o := f.organization(t, m)
	if _, err := m.flusher.Flush(context.Background()); err != nil || len(m.held) > 0 {
		// What it has admitted, and nobody knows of, would come on top.
		return
	}
	asked, index := f.clock.Now(), rapid.IntRange(0, 1).Draw(t, "meter")
	f.pass(2 * leaseFor)
	f.store.Set(func(s *metertest.Store) { s.Quota.Release(m.id) })
	for _, other := range f.members {
		if other == m || rapid.Bool().Draw(t, "idle") {
			continue
		}
		theirs, err := other.meter.Organization(context.Background(), f.ids[n], f.clock.Now())
		require.NoError(t, err)
		meter.WaitForLoads(other.meter)
		f.admit(t, other, theirs, n, index, 3, false, f.clock.Now())
	}
	f.admit(t, m, o, n, index, rapid.IntRange(0, 3).Draw(t, "rounds"), false, asked)
}

// idle has a member forget the organizations that rest, before or after its leases are given back.
func (f *fleet) idle(t *rapid.T) {
	f.rest(t, f.member(t))
}

func (f *fleet) rest(t *rapid.T, m *member) {
	_, _ = m.flusher.Flush(context.Background())
	meter.ForgetIdle(m.flusher, rapid.IntRange(0, 2).Draw(t, "calls"))
}

// pass lets time pass.
func (f *fleet) pass(d time.Duration) {
	f.clock.add(d)
	for n, id := range f.ids {
		if plan := priceAt(f.store.Terms[id], f.clock.Now()).Plan; plan != f.store.Plans[id] {
			f.change(n, plan)
		}
	}
}

func (f *fleet) settle(t *rapid.T, commit bool) {
	m := f.member(t)
	if len(m.held) == 0 {
		return
	}
	n := rapid.IntRange(0, len(m.held)-1).Draw(t, "which")
	f.noteMoves()
	held := m.held[n]
	m.held = append(m.held[:n:n], m.held[n+1:]...)
	if !commit {
		held.reservation.Release()
		return
	}
	// What has been open for long may have moved to a later day.
	if made := calendar.DayOf(held.since); held.since.Add(fleetRedateAfter).After(f.clock.Now()) {
		require.Equal(t, made, held.day)
	} else {
		require.GreaterOrEqual(t, held.day, made)
	}
	held.reservation.Commit()
	f.acknowledged[held.usageKey] += held.quantity
}

// late reports usage of one of the last days.
func (f *fleet) late(t *rapid.T) {
	m := f.member(t)
	n, o := f.organization(t, m)
	index := rapid.IntRange(0, 1).Draw(t, "meter")
	at := f.clock.Now().AddDate(0, 0, -rapid.IntRange(0, 2).Draw(t, "days ago"))
	// Nobody calls for leases meanwhile: a report that finds none is refused at once.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	out, err := o.Report(ctx, meter.Report{Index: meter.Index(index), Quantity: 3, At: at})
	if err == nil && out.Decision.Allowed {
		f.acknowledged[usageKey{n, index, calendar.DayOf(at), f.priceOf(m, n, o, at)}] += 3
	}
}

// keyed reports usage under one of a few identities, now or some days ago.
func (f *fleet) keyed(t *rapid.T) {
	m := f.member(t)
	n, o := f.organization(t, m)
	index := rapid.IntRange(0, 1).Draw(t, "meter")
	name := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "key")
	if rapid.Bool().Draw(t, "leased") {
		// The lease that the report will find.
		_, r := meter.AdmitManually(o, meter.Index(index), 2, f.clock.Now(), 2)
		r.Release()
	}
	at := f.clock.Now().AddDate(0, 0, -rapid.IntRange(0, 2).Draw(t, "days ago"))
	identity := meter.KeyIdentity(name)
	report := meter.Report{Index: meter.Index(index), Quantity: 2, At: at, Identity: identity, Fingerprint: meter.FingerprintOf("same")}
	known := meter.KnownSet(nil)
	if rapid.Bool().Draw(t, "ask") {
		known = o.Known(context.Background(), []meter.Identity{identity})
	}
	// Nobody calls for leases meanwhile: a report that finds none is refused at once.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if rapid.Bool().Draw(t, "forgotten meanwhile") {
		f.rest(t, m)
		o = meter.InPlace(o)
	}
	out, err := o.ReportKnown(ctx, report, known)
	if err != nil || !out.Decision.Allowed || out.Duplicate {
		return
	}
	key := metertest.IdentityKey{Organization: f.ids[n], Identity: identity}
	if f.counted[key] == nil {
		// The day of the first to reach the store counts: the store says which.
		f.counted[key] = map[metertest.PricedBy]bool{}
	}
	f.counted[key][f.priceOf(m, n, o, at)] = true
}

func (f *fleet) steps() map[string]func(*rapid.T) {
	steps := map[string]func(*rapid.T){
		"consume": func(t *rapid.T) { f.request(t, false) },
		"reserve": func(t *rapid.T) { f.request(t, true) },
		"commit":  func(t *rapid.T) { f.settle(t, true) },
		"release": func(t *rapid.T) { f.settle(t, false) },
		"keep":    func(t *rapid.T) { meter.KeepLeases(f.member(t).meter) },
		"recall":  func(*rapid.T) { f.recall() },
		"flush":   func(t *rapid.T) { _, _ = f.member(t).flusher.Flush(context.Background()) },
		"crash":   f.crash,
		"replay":  func(*rapid.T) { f.replay() },
		"start": func(*rapid.T) {
			if len(f.members) < 4 {
				f.start()
			}
		},
		"clock": func(t *rapid.T) { f.pass(time.Duration(rapid.IntRange(1, 30).Draw(t, "hours")) * time.Hour) },
		"stop":  f.stop,
		"idle":  f.idle,
		"lose":  func(*rapid.T) { f.store.Set(func(s *metertest.Store) { s.LoseAnswer = true }) },
		"late":  f.late,
		"":      f.check,

		"spree":      f.spree,
		"replan":     f.replan,
		"follow":     func(t *rapid.T) { f.follow(f.member(t)) },
		"follow all": func(*rapid.T) { f.followAll() },
	}
	if f.answering {
		// An answer that is lost is a store that is away.
		delete(steps, "lose")
		steps["refuse"] = f.refuse
	}
	if !f.strict {
		steps["keyed"] = f.keyed
		steps["publish"] = f.publish
		steps["schedule"] = f.schedule
		steps["away"] = func(t *rapid.T) {
			away := rapid.Bool().Draw(t, "away")
			f.store.Set(func(s *metertest.Store) { s.Away = away })
		}
		steps["back up"] = func(*rapid.T) { f.backup = f.store.Backup() }
		steps["restore"] = func(*rapid.T) { f.restore() }
		steps["lost"] = func(t *rapid.T) {
			m := f.member(t)
			f.store.Set(func(s *metertest.Store) { s.Quota.Release(m.id) })
		}
	}
	return steps
}

// refuse has the store refuse asks for an organization's quota, for good or for now, or grant
// them again.
func (f *fleet) refuse(t *rapid.T) {
	id := f.ids[rapid.IntRange(0, 1).Draw(t, "organization")]
	why := rapid.SampledFrom([]error{nil, meter.ErrAskRefused, meter.ErrAskContested}).Draw(t, "why")
	f.store.Set(func(s *metertest.Store) { s.Refuse(id, why) })
}

// restore takes the store back to the last backup. What a dead instance has left is replayed
// again, by the next process.
func (f *fleet) restore() {
	if f.backup == nil {
		return
	}
	f.store.Restore(f.backup)
	f.dead, f.gone = append(f.dead, f.gone...), nil
	f.forget()
}

// TestLimitsHoldAcrossInstances interleaves what several instances do, crashes and
// replays, and holds that together they never admit more than a hard limit.
func TestLimitsHoldAcrossInstances(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFleet(t, true, false)
		t.Repeat(f.steps())
		f.finish(t)
		f.requireTheLastUnitIsFound(t)
	})
}

// TestLimitsHoldWhereTheStoreRefuses adds a store that answers, and refuses asks for single windows.
func TestLimitsHoldWhereTheStoreRefuses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFleet(t, true, true)
		t.Repeat(f.steps())
		f.finish(t)
		f.requireTheLastUnitIsFound(t)
	})
}

// TestAccountsHoldUnderEveryFault adds changes of plans, a store that is away,
// instances that are taken for lost, a store that goes back in time, and reports with identities.
func TestAccountsHoldUnderEveryFault(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFleet(t, false, false)
		t.Repeat(f.steps())
		f.finish(t)
	})
}
