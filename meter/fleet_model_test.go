package meter_test

import (
	"context"
	"errors"
	"iter"
	"log/slog"
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
func (j *memoryJournal) Records(seq int64) int64       { return int64(len(j.segments[seq])) }
func (j *memoryJournal) Remove(id meter.BatchID) error { delete(j.segments, id.Seq); return nil }
func (j *memoryJournal) Health() error                 { return nil }

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
}

type heldUsage struct {
	usageKey
	quantity    int64
	reservation meter.Reservation
}

type usageKey struct {
	organization, meter int
	day                 plans.Day
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
	// counted are the identities that were acknowledged.
	counted map[eventKey]bool
	// strict says that nothing happens that may pass a limit: no lost instance, no store away,
	// and each change of a plan is taken over by all.
	strict bool
	// forced is, for each organization, what was true when its last change was in force
	// everywhere.
	forced []forced
	// unknown is what instances that died had admitted without a lease.
	unknown []meter.Record
}

// forced is the change that is in force, and what was used or held of each meter's window then.
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
		acknowledged: map[usageKey]int64{}, counted: map[eventKey]bool{},
	}
	require.NoError(t, f.catalog.Validate())
	f.ids = []uuid.UUID{f.store.add("free"), f.store.add("free")}
	f.forced = make([]forced, len(f.ids))
	for range 3 {
		f.start()
	}
	return f
}

func (f *fleet) start() {
	id := uuid.Must(uuid.NewV7())
	m := &member{id: id, journal: newMemoryJournal(id)}
	// Loads in the background read it, too.
	clock := f.clock.Now
	m.meter = meter.New(meter.WithManualLeases(meter.Config{
		Catalog: f.catalog, Store: f.store, Leases: f.store, Events: f.store, Instance: id, Journal: m.journal, Now: clock,
		DenyUnleased: f.strict, Logger: slog.New(slog.DiscardHandler),
	}))
	m.flusher = meter.NewFlusher(meter.FlusherConfig{Meter: m.meter, Store: f.store, Instance: id, Now: clock})
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
		f.store.change(f.ids[n], rapid.SampledFrom([]string{"free", "plus", "pro"}).Draw(t, "plan"))
		for range rapid.IntRange(1, 12).Draw(t, "requests") {
			m := f.member(t)
			if rapid.Bool().Draw(t, "follows") {
				f.follow(m)
			}
			o, err := m.meter.Organization(context.Background(), f.ids[n], f.clock.Now())
			require.NoError(t, err)
			f.admit(t, m, o, n, index, 3, rapid.IntRange(0, 3).Draw(t, "hold") == 0)
			f.check(t)
		}
	}
}

func (f *fleet) admit(t *rapid.T, m *member, o *meter.Organization, n, index, rounds int, hold bool) {
	quantity := rapid.Int64Range(1, 9).Draw(t, "quantity")
	d, r := meter.AdmitManually(o, meter.Index(index), quantity, f.clock.Now(), rounds)
	if !d.Allowed {
		require.False(t, r.Held())
		require.Equal(t, max(0, d.Max-d.Current), d.Remaining)
		return
	}
	key := usageKey{n, index, plans.DayOf(f.clock.Now())}
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
		f.acknowledged[usageKey{n, index, plans.DayOf(at)}] += 3
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
	if !f.counted[key] {
		// The day of the first to reach the store counts: the store says which.
		f.counted[key] = true
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
	f.store.change(f.ids[n], plan)
	for _, m := range f.members {
		switch rapid.IntRange(0, 2).Draw(t, "notified") {
		case 1:
			_ = m.meter.Reload(context.Background(), f.ids[n], f.clock.Now())
		case 2:
			f.follow(m)
		}
	}
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
		"clock": func(t *rapid.T) { f.clock.add(time.Duration(rapid.IntRange(1, 30).Draw(t, "hours")) * time.Hour) },
		"lose":  func(*rapid.T) { f.store.set(func(s *memoryStore) { s.loseAnswer = true }) },
		"late":  f.late,
		"":      f.check,

		"spree":      f.spree,
		"replan":     f.replan,
		"follow":     func(t *rapid.T) { f.follow(f.member(t)) },
		"follow all": func(*rapid.T) { f.followAll() },
	}
	if !f.strict {
		steps["keyed"] = f.keyed
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
		require.True(t, f.counted[key])
		want[recordKey{key.organization, e.known.Meter, e.known.Day}] += e.known.Event.Quantity
	}
	require.Len(t, f.store.records, len(want))
	for key, value := range want {
		require.Equal(t, value, f.store.records[key].value, "%v", key)
	}
	f.requireQuotaIsBack(t)
	for _, b := range f.store.batches {
		require.NotNil(t, b.Journalled)
		require.Equal(t, b.Reports, *b.Journalled, "batch %v", b.ID)
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
