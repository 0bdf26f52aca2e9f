package meter_test

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

// forced is the change, and the restore of the store, that is in force, and the least that was used or held of each meter's
// window since.
type forced struct {
	change   int64
	restores int
	window   [2]calendar.Window
	before   [2]int64
	// idle is what was leased and not admitted as a restore was over: usage that dead instances have
	// left comes back on top of it.
	idle [2]int64
}

// entitlement is the limit that is in force by the store.
func (f *fleet) entitlement(n, index int) plans.Entitlement {
	plan, _ := f.catalog.Plan(f.store.Plans[f.ids[n]])
	return plan.Entitlement(f.catalog.Meters[index].Key)
}

// total is what was acknowledged, or is held, in a window.
func (f *fleet) total(n, index int, window calendar.Window) int64 {
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

// noteMoves takes note of the reservations that have been open for so long that they are of a later
// day. They count there whatever its window had left, and nothing more is admitted than that.
func (f *fleet) noteMoves() {
	for _, m := range f.members {
		for i := range m.held {
			f.noteMove(&m.held[i])
		}
	}
}

func (f *fleet) noteMove(h *heldUsage) {
	day := meter.DayOfOpen(h.reservation)
	if day == h.day {
		return
	}
	h.day = day
	window := f.entitlement(h.organization, h.meter).Window.At(f.clock.Now())
	now := &f.forced[h.organization]
	if now.window[h.meter] != window {
		now.window[h.meter], now.idle[h.meter] = window, 0
	}
	now.before[h.meter] = f.total(h.organization, h.meter, window)
}

// beyond is what may have been admitted in a window by instances that died, and that
// nobody can have known.
func (f *fleet) beyond(n int, e plans.Entitlement, window calendar.Window) int64 {
	beyond := int64(0)
	for _, r := range f.unknown {
		if r.Organization == f.ids[n] && r.Meter == e.Meter && r.Lease != e.Window && window.Contains(r.Day.Start()) {
			beyond += r.Quantity
		}
	}
	return beyond
}

// given is what the store has of a window as used or given out.
func (f *fleet) given(n int, e plans.Entitlement) int64 {
	key := meter.QuotaWindow{Organization: f.ids[n], Meter: e.Meter, Kind: e.Window, Start: calendar.DayOf(e.Window.At(f.clock.Now()).Start)}
	if w := f.store.Quota.Windows[key]; w != nil {
		return w.Consumed + w.Leased + w.Unleased
	}
	return 0
}

// requireLimitsHold is the law: once a change is in force, all instances together admit at
// most the limit less all that was acknowledged or held before, whatever the mode was.
func (f *fleet) requireLimitsHold(t *rapid.T, n int) {
	if len(f.forgotten) > 0 {
		return
	}
	change := int64(0)
	for _, c := range f.store.Changes {
		if c.Organization == f.ids[n] {
			change = c.Number
		}
	}
	for _, through := range f.store.Through {
		if through < change {
			return
		}
	}
	now := &f.forced[n]
	for index := range 2 {
		e := f.entitlement(n, index)
		window := e.Window.At(f.clock.Now())
		total := f.total(n, index, window)
		if now.change != change || now.restores != f.restores {
			now.window[index], now.before[index], now.idle[index] = window, total, 0
		}
		if now.restores != f.restores {
			now.idle[index] = max(0, f.given(n, e)-total)
		}
		// What is released while the limit is passed goes to nobody.
		now.before[index] = min(now.before[index], total)
		limit := e.Max
		if now.window[index] == window {
			limit = max(limit, now.before[index]+now.idle[index])
		}
		if e.Mode == plans.Hard {
			require.LessOrEqual(t, total, limit+f.beyond(n, e, window), "organization %d, meter %d", n, index)
		}
	}
	now.change, now.restores = change, f.restores
}

// check holds L1 after every step, and without faults that the limits hold whatever
// the instances think.
func (f *fleet) check(t *rapid.T) {
	f.noteMoves()
	f.store.Set(func(s *metertest.Store) {
		require.NoError(t, s.Quota.Check())
		if !f.strict {
			return
		}
		for n := range f.ids {
			f.requireLimitsHold(t, n)
		}
	})
}

// finish lets everything come to rest, and holds the store to what was acknowledged.
func (f *fleet) finish(t *rapid.T) {
	f.store.Set(func(s *metertest.Store) { s.Away, s.LoseAnswer, s.Refused = false, false, nil })
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
		if f.backup != nil {
			// Its connection was cut.
			require.NoError(t, m.flusher.CompareLeases(context.Background()))
		}
	}
	for len(f.dead) > 0 {
		require.True(t, f.replay())
	}
	f.check(t)
	want := map[metertest.Key]int64{}
	for key, quantity := range f.acknowledged {
		want[metertest.Key{Organization: f.ids[key.organization], Meter: f.catalog.Meters[key.meter].Key, Day: key.day}] += quantity
	}
	require.Len(t, f.store.Identified, len(f.counted), "every identity that was acknowledged is there, and no other")
	for key, e := range f.store.Identified {
		require.Contains(t, f.counted[key], e.Priced, "the plan of the report's time")
		want[metertest.Key{Organization: key.Organization, Meter: e.Known.Meter, Day: e.Known.Day}] += e.Known.Report.Quantity
	}
	require.Len(t, f.store.Records, len(want))
	for key, value := range want {
		require.Equal(t, value, f.store.Records[key].Value, "%v", key)
	}
	f.requireRowsByPlan(t)
	f.requireQuotaIsBack(t)
	require.Zero(t, f.store.Differing, "what is sent again is the same batch")
	for _, b := range f.store.Batches {
		require.NotNil(t, b.Journalled)
		require.Equal(t, b.Reports, *b.Journalled, "batch %v", b.ID)
	}
}

// requireRowsByPlan holds that all batches together have what was acknowledged, by the plan
// version that priced it, and that a journal's segment is the same batch.
func (f *fleet) requireRowsByPlan(t *rapid.T) {
	got := map[usageKey]int64{}
	for _, b := range f.store.Batches {
		for _, row := range b.Rows {
			if row.IdentifiedOnly {
				continue
			}
			index := slices.IndexFunc(f.catalog.Meters, func(m plans.Meter) bool { return m.Key == row.Meter })
			got[usageKey{slices.Index(f.ids, row.Organization), index, row.Day, metertest.PricedBy{Plan: row.Plan, Version: row.PlanVersion}}] += row.Value
		}
		if records := f.segments[b.ID]; records != nil {
			again, err := meter.BatchOf(b.ID, f.catalog, slicesOf(records))
			require.NoError(t, err)
			require.Equal(t, unleased(b.Rows), unleased(again.Rows))
			require.Equal(t, b.Digest(), again.Digest())
		}
	}
	require.Equal(t, f.acknowledged, got)
}

// unleased is rows without what leases covered: a lease may adopt what the journal had as
// taken without one.
func unleased(rows []meter.Row) []meter.Row {
	out := slices.Clone(rows)
	for i := range out {
		out[i].Leased, out[i].Identified = meter.Leased{}, slices.Clone(out[i].Identified)
		for j := range out[i].Identified {
			out[i].Identified[j].Leased = meter.Leased{}
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
		f.store.Set(func(s *metertest.Store) {
			for key := range s.Quota.Windows {
				s.Quota.Recalled = append(s.Quota.Recalled, key)
			}
		})
		f.recall()
		for _, m := range f.members {
			meter.KeepLeases(m.meter)
		}
	}
	for key, w := range f.store.Quota.Windows {
		sum := int64(0)
		for record, r := range f.store.Records {
			if record.Organization == key.Organization && record.Meter == key.Meter && key.Kind.On(key.Start).Contains(record.Day.Start()) {
				sum += r.Value
			}
		}
		require.Equal(t, sum, w.Consumed+w.Unleased, "%v", key)
		require.Zero(t, w.Leased, "%v", key)
	}
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
	today, used := calendar.DayOf(f.clock.Now()), f.total(0, 0, e.Window.At(f.clock.Now()))
	// What an earlier refusal has found is remembered for a moment.
	f.clock.add(time.Second)
	if calendar.DayOf(f.clock.Now()) != today {
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
