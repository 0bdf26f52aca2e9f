package meter_test

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// memoryJournal outlives the instance that writes it.
type memoryJournal struct {
	instance uuid.UUID
	active   int64
	segments map[int64][]meter.Record
	full     bool
	// removed keeps what was removed; nil: nothing is kept.
	removed map[meter.BatchID][]meter.Record
}

var errFull = errors.New("full")

func newMemoryJournal(instance uuid.UUID) *memoryJournal {
	return &memoryJournal{instance: instance, active: 1, segments: map[int64][]meter.Record{}}
}

func (j *memoryJournal) Append(r meter.Record) (int64, error) {
	if j.full {
		return 0, errFull
	}
	j.segments[j.active] = append(j.segments[j.active], r)
	return j.active, nil
}

func (j *memoryJournal) Prepare() error { return nil }

func (j *memoryJournal) Rotate() (int64, error) {
	j.active++
	return j.active - 1, nil
}
func (j *memoryJournal) Records(seq int64) int64 { return int64(len(j.segments[seq])) }
func (j *memoryJournal) Remove(id meter.BatchID) error {
	if j.removed != nil {
		j.removed[id] = j.segments[id.Seq]
	}
	delete(j.segments, id.Seq)
	return nil
}
func (j *memoryJournal) Health() error { return nil }

func (j *memoryJournal) read(seq int64) iter.Seq2[meter.Record, error] {
	return func(yield func(meter.Record, error) bool) {
		for _, r := range j.segments[seq] {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// member is one instance of the fleet.
type member struct {
	id      uuid.UUID
	meter   *meter.Meter
	flusher *meter.Flusher
	journal *memoryJournal
	changes *meter.Takeover
	held    []heldUsage
	// terms are the plans over time that it was last told of.
	terms map[uuid.UUID][]meter.Term
}

type heldUsage struct {
	usageKey
	quantity    int64
	reservation meter.Reservation
}

type usageKey struct {
	organization, meter int
	day                 plans.Day
	priced              pricedBy
}

// learned is the store as a member reads it: what it is told of plans over time is noted.
type learned struct {
	*memoryStore
	member *member
}

func (s learned) LoadOrganization(ctx context.Context, id uuid.UUID, day plans.Day) (meter.Snapshot, error) {
	snapshot, err := s.memoryStore.LoadOrganization(ctx, id, day)
	if err == nil {
		s.member.terms[id] = snapshot.Terms
	}
	return snapshot, err
}

// fleet is a few instances on one store, and the account of what was acknowledged.
type fleet struct {
	t       *rapid.T
	store   *memoryStore
	catalog *plans.Catalog
	clock   *clock
	ids     []uuid.UUID
	members []*member
	dead    []*memoryJournal
	// acknowledged is what must be in the store in the end.
	acknowledged map[usageKey]int64
	// counted are the identities that were acknowledged, with the plans that may price them:
	// of the instances that took the report at once, the first to flush decides.
	counted map[eventKey]map[pricedBy]bool
	// segments are what the journals had of batches that were acknowledged.
	segments map[meter.BatchID][]meter.Record
	// strict says that nothing happens that may pass a limit: no lost instance, no store away,
	// and each change of a plan is taken over by all.
	strict bool
	// forced is, for each organization, what was true when its last change was in force
	// everywhere.
	forced []forced
	// unknown is what instances that died had admitted without a lease.
	unknown []meter.Record
}

// forced is the change that is in force, and the least that was used or held of each meter's
// window since.
type forced struct {
	change int64
	window [2]plans.Window
	before [2]int64
}

// fleetCatalog has a plan with hard limits of a day and of a month, one with higher ones
// and a limit whose window differs, and one with soft ones.
func fleetCatalog() *plans.Catalog {
	meters := []plans.Meter{
		{Key: "daily", Name: "Daily", Aggregation: plans.Sum, Unit: "call"},
		{Key: "monthly", Name: "Monthly", Aggregation: plans.Sum, Unit: "call"},
	}
	limits := func(mode plans.Mode, daily, monthly int64, second plans.WindowKind) []plans.Entitlement {
		return []plans.Entitlement{
			{Meter: "daily", Mode: mode, Window: plans.WindowDay, Max: daily},
			{Meter: "monthly", Mode: mode, Window: second, Max: monthly},
		}
	}
	return &plans.Catalog{Meters: meters, Plans: []plans.Plan{
		{Key: "free", Version: 1, Name: "Free", Entitlements: limits(plans.Hard, 20, 30, plans.WindowMonth)},
		{Key: "plus", Version: 1, Name: "Plus", Entitlements: limits(plans.Hard, 40, 15, plans.WindowDay)},
		{Key: "pro", Version: 1, Name: "Pro", Entitlements: limits(plans.Soft, 5, 5, plans.WindowDay)},
	}}
}

func newFleet(t *rapid.T, strict bool) *fleet {
	f := &fleet{
		t: t, store: newMemoryStore(), catalog: fleetCatalog(), strict: strict,
		clock:        &clock{now: time.Date(2026, 11, 29, 20, 0, 0, 0, time.UTC)},
		acknowledged: map[usageKey]int64{}, counted: map[eventKey]map[pricedBy]bool{},
		segments: map[meter.BatchID][]meter.Record{},
	}
	require.NoError(t, f.catalog.Validate())
	f.ids = []uuid.UUID{f.store.add("free"), f.store.add("free")}
	f.forced = make([]forced, len(f.ids))
	for _, id := range f.ids {
		f.store.terms[id] = []meter.Term{{Plan: "free", Version: 1, From: f.clock.Now().AddDate(0, 0, -1)}}
	}
	for range 3 {
		f.start()
	}
	return f
}

func (f *fleet) start() {
	id := uuid.Must(uuid.NewV7())
	m := &member{id: id, journal: newMemoryJournal(id), terms: map[uuid.UUID][]meter.Term{}}
	// Loads in the background read it, too.
	clock := f.clock.Now
	m.meter = meter.New(meter.WithManualLeases(meter.Config{
		Catalog: f.catalog, Store: learned{f.store, m}, Leases: f.store, Events: f.store, Instance: id, Journal: m.journal, Now: clock,
		DenyUnleased: f.strict, Logger: slog.New(slog.DiscardHandler),
	}))
	m.flusher = meter.NewFlusher(meter.FlusherConfig{Meter: m.meter, Store: f.store, Instance: id, Now: clock})
	m.journal.removed = f.segments
	m.changes = meter.NewTakeover(meter.TakeoverConfig{
		Meter: m.meter, Flusher: m.flusher, Store: f.store, Instance: id, Now: clock,
		Catalog: func(context.Context) error { return nil },
	})
	f.members = append(f.members, m)
	f.store.quota.live = int64(len(f.members))
	f.store.set(func(s *memoryStore) { s.through[id] = int64(len(s.changes)) })
}

func (f *fleet) member(t *rapid.T) *member {
	return f.members[rapid.IntRange(0, len(f.members)-1).Draw(t, "instance")]
}

func (f *fleet) organization(t *rapid.T, m *member) (int, *meter.Organization) {
	n := rapid.IntRange(0, 1).Draw(t, "organization")
	o, err := m.meter.Organization(context.Background(), f.ids[n], f.clock.Now())
	require.NoError(t, err)
	meter.WaitForLoads(m.meter)
	return n, o
}

func (f *fleet) request(t *rapid.T, hold bool) {
	m := f.member(t)
	n, o := f.organization(t, m)
	index := rapid.IntRange(0, 1).Draw(t, "meter")
	f.admit(t, m, o, n, index, rapid.IntRange(0, 3).Draw(t, "rounds"), hold)
}

// spree is what one organization does in a hurry: a plan, and requests everywhere.
func (f *fleet) spree(t *rapid.T) {
	n := rapid.IntRange(0, 1).Draw(t, "organization")
	index := rapid.IntRange(0, 1).Draw(t, "meter")
	for range rapid.IntRange(1, 3).Draw(t, "phases") {
		f.change(n, rapid.SampledFrom([]string{"free", "plus", "pro"}).Draw(t, "plan"))
		for range rapid.IntRange(1, 12).Draw(t, "requests") {
			m := f.member(t)
			if rapid.Bool().Draw(t, "follows") {
				f.follow(m)
			}
			if rapid.IntRange(0, 3).Draw(t, "settle") == 0 {
				f.settle(t, rapid.Bool().Draw(t, "commit"))
			}
			o, err := m.meter.Organization(context.Background(), f.ids[n], f.clock.Now())
			require.NoError(t, err)
			meter.WaitForLoads(m.meter)
			f.admit(t, m, o, n, index, 3, rapid.IntRange(0, 3).Draw(t, "hold") == 0)
			f.check(t)
		}
	}
}

func (f *fleet) admit(t *rapid.T, m *member, o *meter.Organization, n, index, rounds int, hold bool) {
	quantity := rapid.Int64Range(1, 9).Draw(t, "quantity")
	d, r := meter.AdmitManually(o, meter.Index(index), quantity, f.clock.Now(), rounds)
	plan := o.Plan()
	f.requirePlanOfNow(t, m, n, o)
	if !d.Allowed {
		require.False(t, r.Held())
		require.Equal(t, max(0, d.Max-d.Current), d.Remaining)
		return
	}
	require.True(t, plan.Key != "" || !o.Loaded(), "without a contract nothing is admitted")
	key := usageKey{n, index, plans.DayOf(f.clock.Now()), pricedBy{plan.Key, plan.Version}}
	if hold {
		m.held = append(m.held, heldUsage{key, quantity, r})
		return
	}
	r.Commit()
	f.acknowledged[key] += quantity
}

func (f *fleet) settle(t *rapid.T, commit bool) {
	m := f.member(t)
	if len(m.held) == 0 {
		return
	}
	n := rapid.IntRange(0, len(m.held)-1).Draw(t, "which")
	held := m.held[n]
	m.held = append(m.held[:n:n], m.held[n+1:]...)
	if !commit {
		held.reservation.Release()
		return
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
	out := o.Report(ctx, meter.Report{Index: meter.Index(index), Quantity: 3, At: at})
	if out.Err == nil && out.Decision.Allowed {
		f.acknowledged[usageKey{n, index, plans.DayOf(at), f.priceOf(m, n, o, at)}] += 3
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
	out := o.ReportKnown(ctx, report, known)
	if out.Err != nil || !out.Decision.Allowed || out.Duplicate {
		return
	}
	key := eventKey{f.ids[n], identity}
	if f.counted[key] == nil {
		// The day of the first to reach the store counts: the store says which.
		f.counted[key] = map[pricedBy]bool{}
	}
	f.counted[key][f.priceOf(m, n, o, at)] = true
}

// priceOf is what an instance prices usage of a time by.
func (f *fleet) priceOf(m *member, n int, o *meter.Organization, at time.Time) pricedBy {
	if at.Before(f.clock.Now()) {
		return priceAt(m.terms[f.ids[n]], at)
	}
	plan := o.Plan()
	return pricedBy{plan.Key, plan.Version}
}

// priceAt is the last term that has begun.
func priceAt(terms []meter.Term, at time.Time) (priced pricedBy) {
	for _, t := range terms {
		if !t.From.After(at) {
			priced = pricedBy{t.Plan, t.Version}
		}
	}
	return priced
}

// withVersion is terms where a version of a plan is in force from a time on.
func withVersion(terms []meter.Term, plan string, version int, now time.Time) []meter.Term {
	current := priceAt(terms, now)
	var next []meter.Term
	for _, t := range terms {
		if t.From.After(now) && current.plan == plan && current.version != version {
			next = append(next, meter.Term{Plan: plan, Version: version, From: now})
			current.version = version
		}
		if t.From.After(now) && t.Plan == plan {
			t.Version = version
		}
		next = append(next, t)
	}
	if current.plan == plan && current.version != version {
		next = append(next, meter.Term{Plan: plan, Version: version, From: now})
	}
	return next
}

// term is a plan in its version of now, from a time on.
func (f *fleet) term(plan string, from time.Time) meter.Term {
	version := 0
	if p, ok := f.catalog.Plan(plan); ok {
		version = p.Version
	}
	return meter.Term{Plan: plan, Version: version, From: from}
}

// requirePlanOfNow holds that an instance has the plan in force that it was told of.
func (f *fleet) requirePlanOfNow(t *rapid.T, m *member, n int, o *meter.Organization) {
	if o.Loaded() {
		require.Equal(t, priceAt(m.terms[f.ids[n]], f.clock.Now()).plan, o.Plan().Key)
	}
}

// publish puts another version of a plan in force at some instances.
func (f *fleet) publish(t *rapid.T) {
	plan := rapid.SampledFrom([]string{"free", "pro"}).Draw(t, "plan")
	next, ok := f.catalog.Plan(plan)
	require.True(t, ok)
	next.Version++
	f.catalog = &plans.Catalog{Meters: f.catalog.Meters, Plans: append(slices.Clone(f.catalog.Plans), next)}
	for _, id := range f.ids {
		f.store.set(func(s *memoryStore) { s.terms[id] = withVersion(s.terms[id], plan, next.Version, f.clock.Now()) })
	}
	for _, m := range f.members {
		if !rapid.Bool().Draw(t, "notified") {
			continue
		}
		require.NoError(t, m.meter.SetCatalog(f.catalog))
		for id, terms := range m.terms {
			for _, p := range f.catalog.InForce() {
				terms = withVersion(terms, p.Key, p.Version, f.clock.Now())
			}
			m.terms[id] = terms
		}
	}
}

// schedule makes a change of plan that is to come, or the end of the contract.
func (f *fleet) schedule(t *rapid.T) {
	n := rapid.IntRange(0, 1).Draw(t, "organization")
	plan := rapid.SampledFrom([]string{"free", "plus", "pro", ""}).Draw(t, "plan")
	from := f.clock.Now().Add(time.Duration(rapid.IntRange(1, 20).Draw(t, "hours")) * time.Hour)
	f.store.set(func(s *memoryStore) {
		s.terms[f.ids[n]] = append(f.begun(n), f.term(plan, from))
	})
	f.notify(t, n)
}

// begun are the terms of an organization that have begun.
func (f *fleet) begun(n int) []meter.Term {
	return slices.DeleteFunc(slices.Clone(f.store.terms[f.ids[n]]), func(t meter.Term) bool { return t.From.After(f.clock.Now()) })
}

func (f *fleet) notify(t *rapid.T, n int) {
	for _, m := range f.members {
		if rapid.Bool().Draw(t, "notified") {
			_ = m.meter.Reload(context.Background(), f.ids[n], f.clock.Now())
		}
	}
}

func (f *fleet) crash(t *rapid.T) {
	if len(f.members) < 2 {
		return
	}
	n := rapid.IntRange(0, len(f.members)-1).Draw(t, "instance")
	f.dead = append(f.dead, f.members[n].journal)
	for _, records := range f.members[n].journal.segments {
		f.unknown = append(f.unknown, records...)
	}
	f.store.set(func(s *memoryStore) { delete(s.through, f.members[n].id) })
	f.members = append(f.members[:n:n], f.members[n+1:]...)
	f.store.quota.live = int64(len(f.members))
}

// replay does what the next process does with a dead one's journal.
func (f *fleet) replay() bool {
	if len(f.dead) == 0 {
		return true
	}
	j := f.dead[0]
	for seq := int64(1); seq <= j.active; seq++ {
		if len(j.segments[seq]) == 0 && f.store.seqs[j.instance] >= seq {
			continue
		}
		batch, err := meter.BatchOf(meter.BatchID{Instance: j.instance, Seq: seq}, f.catalog, j.read(seq))
		require.NoError(f.t, err)
		if _, err := f.store.ApplyBatch(context.Background(), batch); err != nil {
			return false
		}
	}
	f.dead = f.dead[1:]
	f.store.set(func(s *memoryStore) { s.quota.release(j.instance, false) })
	return true
}

func (f *fleet) recall() {
	f.store.mu.Lock()
	recalled := f.store.quota.recalled
	f.store.quota.recalled = nil
	f.store.mu.Unlock()
	for _, key := range recalled {
		for _, m := range f.members {
			m.meter.Recall(key)
		}
	}
}

func (f *fleet) replan(t *rapid.T) {
	n := rapid.IntRange(0, 1).Draw(t, "organization")
	plan := rapid.SampledFrom([]string{"free", "plus", "pro"}).Draw(t, "plan")
	f.change(n, plan)
	for _, m := range f.members {
		switch rapid.IntRange(0, 2).Draw(t, "notified") {
		case 1:
			_ = m.meter.Reload(context.Background(), f.ids[n], f.clock.Now())
		case 2:
			f.follow(m)
		}
	}
}

// change puts another plan in force now.
func (f *fleet) change(n int, plan string) {
	f.store.set(func(s *memoryStore) {
		s.terms[f.ids[n]] = append(f.begun(n), f.term(plan, f.clock.Now()))
	})
	f.store.change(f.ids[n], plan)
}

// follow takes changes over at an instance, as far as the store can be told.
func (f *fleet) follow(m *member) {
	for range 3 {
		if _, err := m.changes.Follow(context.Background()); err == nil {
			return
		}
		meter.KeepLeases(m.meter)
	}
}

func (f *fleet) followAll() {
	for _, m := range f.members {
		f.follow(m)
	}
}

// entitlement is the limit that is in force by the store.
func (f *fleet) entitlement(n, index int) plans.Entitlement {
	plan, _ := f.catalog.Plan(f.store.plans[f.ids[n]])
	return plan.Entitlement(f.catalog.Meters[index].Key)
}

// total is what was acknowledged, or is held, in a window.
func (f *fleet) total(n, index int, window plans.Window) int64 {
	total := int64(0)
	for key, quantity := range f.acknowledged {
		if key.organization == n && key.meter == index && window.Contains(key.day.Start()) {
			total += quantity
		}
	}
	for _, m := range f.members {
		for _, h := range m.held {
			if h.organization == n && h.meter == index && window.Contains(h.day.Start()) {
				total += h.quantity
			}
		}
	}
	return total
}

// beyond is what may have been admitted in a window by instances that died, and that
// nobody can have known.
func (f *fleet) beyond(n int, e plans.Entitlement, window plans.Window) int64 {
	beyond := int64(0)
	for _, r := range f.unknown {
		if r.Organization == f.ids[n] && r.Meter == e.Meter && r.Lease != e.Window && window.Contains(r.Day.Start()) {
			beyond += r.Quantity
		}
	}
	return beyond
}

// requireLimitsHold is the law: once a change is in force, all instances together admit at
// most the limit less all that was acknowledged or held before, whatever the mode was.
func (f *fleet) requireLimitsHold(t *rapid.T, n int) {
	change := int64(0)
	for _, c := range f.store.changes {
		if c.Organization == f.ids[n] {
			change = c.Number
		}
	}
	for _, through := range f.store.through {
		if through < change {
			return
		}
	}
	now := &f.forced[n]
	for index := range 2 {
		e := f.entitlement(n, index)
		window := e.Window.At(f.clock.Now())
		total := f.total(n, index, window)
		if now.change != change {
			now.window[index], now.before[index] = window, total
		}
		// What is released while the limit is passed goes to nobody.
		now.before[index] = min(now.before[index], total)
		limit := e.Max
		if now.window[index] == window {
			limit = max(limit, now.before[index])
		}
		if e.Mode == plans.Hard {
			require.LessOrEqual(t, total, limit+f.beyond(n, e, window), "organization %d, meter %d", n, index)
		}
	}
	now.change = change
}

// check holds L1 after every step, and without faults that the limits hold whatever
// the instances think.
func (f *fleet) check(t *rapid.T) {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	require.NoError(t, f.store.quota.check())
	if !f.strict {
		return
	}
	for n := range f.ids {
		f.requireLimitsHold(t, n)
	}
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
		"clock": func(t *rapid.T) {
			f.clock.add(time.Duration(rapid.IntRange(1, 30).Draw(t, "hours")) * time.Hour)
			for n, id := range f.ids {
				if plan := priceAt(f.store.terms[id], f.clock.Now()).plan; plan != f.store.plans[id] {
					f.change(n, plan)
				}
			}
		},
		"lose": func(*rapid.T) { f.store.set(func(s *memoryStore) { s.loseAnswer = true }) },
		"late": f.late,
		"":     f.check,

		"spree":      f.spree,
		"replan":     f.replan,
		"follow":     func(t *rapid.T) { f.follow(f.member(t)) },
		"follow all": func(*rapid.T) { f.followAll() },
	}
	if !f.strict {
		steps["keyed"] = f.keyed
		steps["publish"] = f.publish
		steps["schedule"] = f.schedule
		steps["away"] = func(t *rapid.T) {
			away := rapid.Bool().Draw(t, "away")
			f.store.set(func(s *memoryStore) { s.away = away })
		}
		steps["lost"] = func(t *rapid.T) {
			m := f.member(t)
			f.store.set(func(s *memoryStore) { s.quota.release(m.id, true) })
		}
	}
	return steps
}

// finish lets everything come to rest, and holds the store to what was acknowledged.
func (f *fleet) finish(t *rapid.T) {
	f.store.set(func(s *memoryStore) { s.away, s.loseAnswer = false, false })
	for _, m := range f.members {
		for _, h := range m.held {
			h.reservation.Release()
		}
		m.held = nil
		for range 3 {
			meter.KeepLeases(m.meter)
		}
		_, err := m.flusher.Flush(context.Background())
		require.NoError(t, err)
	}
	for len(f.dead) > 0 {
		require.True(t, f.replay())
	}
	f.check(t)
	want := map[recordKey]int64{}
	for key, quantity := range f.acknowledged {
		want[recordKey{f.ids[key.organization], f.catalog.Meters[key.meter].Key, key.day}] += quantity
	}
	require.Len(t, f.store.events, len(f.counted), "every identity that was acknowledged is there, and no other")
	for key, e := range f.store.events {
		require.Contains(t, f.counted[key], e.priced, "the plan of the report's time")
		want[recordKey{key.organization, e.known.Meter, e.known.Day}] += e.known.Event.Quantity
	}
	require.Len(t, f.store.records, len(want))
	for key, value := range want {
		require.Equal(t, value, f.store.records[key].value, "%v", key)
	}
	f.requireRowsByPlan(t)
	f.requireQuotaIsBack(t)
	for _, b := range f.store.batches {
		require.NotNil(t, b.Journalled)
		require.Equal(t, b.Reports, *b.Journalled, "batch %v", b.ID)
	}
}

// requireRowsByPlan holds that all batches together have what was acknowledged, by the plan
// version that priced it, and that a journal's segment is the same batch.
func (f *fleet) requireRowsByPlan(t *rapid.T) {
	got := map[usageKey]int64{}
	for _, b := range f.store.batches {
		for _, row := range b.Rows {
			if row.EventsOnly {
				continue
			}
			index := slices.IndexFunc(f.catalog.Meters, func(m plans.Meter) bool { return m.Key == row.Meter })
			got[usageKey{slices.Index(f.ids, row.Organization), index, row.Day, pricedBy{row.Plan, row.PlanVersion}}] += row.Value
		}
		if records := f.segments[b.ID]; records != nil {
			again, err := meter.BatchOf(b.ID, f.catalog, slicesOf(records))
			require.NoError(t, err)
			require.Equal(t, unleased(b.Rows), unleased(again.Rows))
		}
	}
	require.Equal(t, f.acknowledged, got)
}

// unleased is rows without what leases covered: a lease may adopt what the journal had as
// taken without one.
func unleased(rows []meter.Row) []meter.Row {
	out := slices.Clone(rows)
	for i := range out {
		out[i].Leased, out[i].Events = meter.Leased{}, slices.Clone(out[i].Events)
		for j := range out[i].Events {
			out[i].Events[j].Leased = meter.Leased{}
		}
	}
	return out
}

// slicesOf yields records as a journal does.
func slicesOf(records []meter.Record) iter.Seq2[meter.Record, error] {
	return func(yield func(meter.Record, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// requireQuotaIsBack asks every instance for what it doesn't use: nothing is leased then,
// and what the windows count is what the records say.
func (f *fleet) requireQuotaIsBack(t *rapid.T) {
	for range 3 {
		f.store.set(func(s *memoryStore) {
			for key := range s.quota.windows {
				s.quota.recalled = append(s.quota.recalled, key)
			}
		})
		f.recall()
		for _, m := range f.members {
			meter.KeepLeases(m.meter)
		}
	}
	for key, w := range f.store.quota.windows {
		sum := int64(0)
		for record, r := range f.store.records {
			if record.organization == key.Organization && record.meter == key.Meter && key.Kind.On(key.Start).Contains(record.day.Start()) {
				sum += r.value
			}
		}
		require.Equal(t, sum, w.consumed+w.unleased, "%v", key)
		require.Zero(t, w.leased, "%v", key)
	}
}

// TestLimitsHoldAcrossInstances interleaves what several instances do, crashes and
// replays, and holds that together they never admit more than a hard limit.
func TestLimitsHoldAcrossInstances(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFleet(t, true)
		t.Repeat(f.steps())
		f.finish(t)
		f.requireTheLastUnitIsFound(t)
	})
}

// TestAccountsHoldUnderEveryFault adds changes of plans, a store that is away,
// instances that are taken for lost, and reports with identities.
func TestAccountsHoldUnderEveryFault(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFleet(t, false)
		t.Repeat(f.steps())
		f.finish(t)
	})
}

// requireTheLastUnitIsFound uses up what remains at whichever instance.
func (f *fleet) requireTheLastUnitIsFound(t *rapid.T) {
	if len(f.members) == 1 {
		f.start()
	}
	f.followAll()
	e := f.entitlement(0, 0)
	if e.Mode != plans.Hard {
		return
	}
	today, used := plans.DayOf(f.clock.Now()), f.total(0, 0, e.Window.At(f.clock.Now()))
	// What an earlier refusal has found is remembered for a moment.
	f.clock.add(time.Second)
	if plans.DayOf(f.clock.Now()) != today {
		return
	}
	for n := used; n <= e.Max; n++ {
		m := f.members[int(n)%len(f.members)]
		o, err := m.meter.Organization(context.Background(), f.ids[0], f.clock.Now())
		require.NoError(t, err)
		allowed := false
		for range 3 {
			d, r := meter.AdmitManually(o, 0, 1, f.clock.Now(), 2)
			allowed = allowed || d.Allowed
			if d.Allowed {
				r.Commit()
				break
			}
			f.recall()
			for _, other := range f.members {
				meter.KeepLeases(other.meter)
			}
		}
		require.Equal(t, n < e.Max, allowed, "with %d used", n)
	}
}
