package pgstore_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// used is a segment's usage of a meter, in a form that compares.
type used struct {
	Value       int64
	UnitSeconds string
}

// usageBySegment returns what each segment used, by meter.
func usageBySegment(a billing.OrganizationPeriod) []map[string]used {
	out := make([]map[string]used, len(a.Segments))
	for i, s := range a.Segments {
		out[i] = map[string]used{}
		for _, u := range s.Usage {
			out[i][u.Meter] = used{u.Value, u.UnitSeconds.String()}
		}
	}
	return out
}

// A plan changes at noon and at six of one day: sums are of the segment of their last
// report, peaks count in each, and levels hold over a change.
func TestUsageBySegment(t *testing.T) {
	t.Parallel()
	noon, six := hour(today, 12), hour(today, 18)
	seconds := func(from, until time.Time) int64 { return int64(until.Sub(from) / time.Second) }
	for _, rolledUp := range []bool{false, true} {
		t.Run(fmt.Sprintf("rolled up %v", rolledUp), func(t *testing.T) {
			f := newFixture(t)
			o := f.organizationSince("Acme", "free", period.Start().AddDate(0, -1, 0)).ID
			single := f.organizationSince("Bolt", "free", period.Start().AddDate(0, -1, 0)).ID
			f.changePlan(o, noon, "pro")
			f.changePlan(o, six, "enterprise")
			w := f.instance()
			w.flush(
				rowAt(o, storage, firstDay-2, 10, hour(firstDay-2, 1)),
				rowAt(o, evaluations, firstDay-1, 1000, hour(firstDay-1, 1)), rowAt(o, evaluations, lastDay+1, 1000, hour(lastDay+1, 1)),
				rowAt(o, evaluations, firstDay, 1, period.Start()), rowAt(single, evaluations, today, 64, noon),
			)
			w.flush(rowAt(o, evaluations, today, 2, noon.Add(-time.Microsecond)), rowAt(o, entities, today, 70, hour(today, 6)), rowAt(o, storage, today, 20, hour(today, 6)))
			w.flush(rowAt(o, evaluations, today, 4, noon), rowAt(o, entities, today, 40, hour(today, 13)))
			w.flush(rowAt(o, evaluations, today, 8, six.Add(-time.Second)), rowAt(o, evaluations, today+1, 16, hour(today+1, 1)))
			w.flush(rowAt(o, evaluations, lastDay, 32, period.End().Add(-time.Microsecond)), rowAt(o, entities, lastDay, 50, hour(lastDay, 13)), rowAt(o, storage, lastDay, 30, hour(lastDay, 12)))
			for day := firstDay - 2; rolledUp && day <= lastDay; day++ {
				f.rollUp(day)
			}
			e := f.frozen(period, "run")
			r := f.ratables(e.ID, 10)
			levels := func(value int64, unitSeconds ...int64) used {
				var sum int64
				for _, s := range unitSeconds {
					sum += s
				}
				return used{value, fmt.Sprint(sum)}
			}
			// The day that three plans share begins and ends a segment.
			want := []map[string]used{
				{evaluations: {1, "0"}, storage: levels(10, 10*seconds(period.Start(), today.Start()))},
				{
					evaluations: {2, "0"}, entities: {70, "0"},
					storage: levels(20, 10*seconds(today.Start(), hour(today, 6)), 20*seconds(hour(today, 6), noon)),
				},
				{evaluations: {12, "0"}, entities: {40, "0"}, storage: levels(20, 20*seconds(noon, six))},
				{storage: levels(20, 20*seconds(six, today.End()))},
				{
					evaluations: {48, "0"}, entities: {50, "0"},
					storage: levels(30, 20*seconds(today.End(), hour(lastDay, 12)), 30*seconds(hour(lastDay, 12), period.End())),
				},
			}
			require.Empty(t, cmp.Diff(want, usageBySegment(r[o].OrganizationPeriod)))
			require.Empty(t, cmp.Diff([]map[string]used{{evaluations: {64, "0"}}}, usageBySegment(r[single].OrganizationPeriod)))
			require.Zero(t, f.count(`SELECT count(*) FROM export_segment_usage WHERE organization_id = $1`, single), "one segment has the totals")
		})
	}
}

// Usage from before an organization's first plan, and after its contract's end, is of no plan.
func TestUsageOutsideOfTheContract(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	noon, end := hour(today, 12), hour(today+2, 6)
	o := f.organizationSince("Acme", "free", noon).ID
	f.changePlan(o, end, "")
	f.instance().flush(
		rowAt(o, evaluations, firstDay, 1, hour(firstDay, 1)), rowAt(o, evaluations, today, 2, hour(today, 13)), rowAt(o, evaluations, today+2, 4, end),
		rowAt(o, storage, firstDay+1, 10, hour(firstDay+1, 0)),
	)
	r := f.ratables(f.frozen(period, "run").ID, 10)[o]
	require.Equal(t, []stretch{{period.Start(), noon, "", 0}, {noon, end, "free", 1}, {end, period.End(), "", 0}}, stretches(r))
	seconds := func(from, until time.Time) string { return fmt.Sprint(10 * int64(until.Sub(from)/time.Second)) }
	require.Empty(t, cmp.Diff([]map[string]used{
		{evaluations: {1, "0"}, storage: {10, seconds(hour(firstDay+1, 0), noon)}},
		{evaluations: {2, "0"}, storage: {10, seconds(noon, end)}},
		{evaluations: {4, "0"}, storage: {10, seconds(end, period.End())}},
	}, usageBySegment(r.OrganizationPeriod)))
}

// One back-dated report of a customer who signed up later bills no fee of a month before
// the contract, neither in that month's export nor as its correction: it is shown once, at
// no cost.
func TestNoFeeBeforeTheContract(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	paid := plans.Plan{Key: "paid", Name: "Paid", PriceBooks: []plans.PriceBook{{Currency: "USD", BaseFee: plans.BaseFee{Amount: decimal.NewFromInt(49)}}}}
	_, err := f.PublishPlan(t.Context(), paid)
	require.NoError(t, err)
	late := func(name string) uuid.UUID {
		return f.organizationSince(name, "paid", secondPeriod.Start().Add(time.Hour)).ID
	}
	acme, bolt := late("Acme"), late("Bolt")
	w := f.instance()
	w.flush(row(acme, evaluations, today, 5))
	first := f.closePeriod(period)
	s := f.statement(first.ID, acme)
	require.Equal(t, "0.00", s.Due.String())
	require.Equal(t, []string{"Evaluations, outside of the contract 0.00"}, lineTexts(s))

	w.flush(row(bolt, evaluations, today, 7))
	second := f.closePeriod(secondPeriod)
	require.Equal(t, []string{"Base fee, plan Paid 49.00"}, lineTexts(f.statement(second.ID, acme)))
	require.Equal(t, []string{
		"Base fee, plan Paid 49.00", "Correction of " + period.String() + ": usage of evaluations, outside of the contract 0.00",
	}, lineTexts(f.statement(second.ID, bolt)))
	third := f.closePeriod(thirdPeriod)
	require.Equal(t, []string{"Base fee, plan Paid 49.00"}, lineTexts(f.statement(third.ID, bolt)))
}

func lineTexts(s billing.Statement) []string {
	var out []string
	for _, l := range s.Lines {
		out = append(out, l.Description+" "+l.Amount.String())
	}
	return out
}

// A customer who has left has a last statement with the month, and none afterwards; what
// is late for that month is corrected all the same.
func TestNoStatementAfterTheContract(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	o := f.customer("Acme")
	f.changePlan(o, hour(today, 12), "")
	w := f.instance()
	w.flush(rowAt(o, evaluations, today, 5, hour(today, 6)))
	require.Equal(t, []string{"Evaluations 5.00"}, lineTexts(f.statement(f.closePeriod(period).ID, o)))
	_, err := f.Statement(t.Context(), f.closePeriod(secondPeriod).ID, o)
	require.ErrorIs(t, err, billing.ErrStatementNotFound)
	w.flush(rowAt(o, evaluations, today, 2, hour(today, 7)), rowAt(o, evaluations, today+1, 100, hour(today+1, 7)))
	correction := "Correction of " + period.String() + ": usage of evaluations"
	require.Equal(t, []string{correction + " 2.00", correction + ", outside of the contract 0.00"},
		lineTexts(f.statement(f.closePeriod(thirdPeriod).ID, o)))
}

// A day that a plan has for ten seconds alone is the dearer plan's: its fee for a day, and
// the day's peaks, which are prorated by the day.
func TestADayBelongsToTheDearerPlan(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	plan := func(key string, fee, seat int64) {
		_, err := f.PublishPlan(t.Context(), plans.Plan{Key: key, Name: key, PriceBooks: []plans.PriceBook{{
			Currency: "USD", BaseFee: plans.BaseFee{Amount: decimal.NewFromInt(fee), Prorate: plans.ProrateDay},
			Prices: []plans.Price{{Meter: entities, Model: plans.PerUnit, UnitPrice: decimal.NewFromInt(seat), Prorate: plans.ProrateDay}},
		}}})
		require.NoError(t, err)
	}
	days := int64(period.LastDay()-period.FirstDay()) + 1
	plan("dear", 10*days, days)
	plan("cheap", days, 2*days)
	o := f.organizationSince("Acme", "cheap", period.Start().AddDate(0, -1, 0)).ID
	f.changePlan(o, today.Start(), "dear")
	f.changePlan(o, today.End().Add(-10*time.Second), "cheap")
	f.instance().flush(
		rowAt(o, entities, today-1, 3, hour(today-1, 5)), rowAt(o, entities, today, 50, today.End().Add(-time.Second)), rowAt(o, entities, today+1, 4, hour(today+1, 5)))
	e := f.frozen(period, "run")
	f.draft(e)
	// The peak of the day is dear's, whoever was in force as it was reached: 50 for a day. Cheap's is 4, for the others.
	require.Equal(t, []string{
		fmt.Sprintf("Base fee, plan cheap %d.00", days-1), fmt.Sprintf("Entity instances (daily peak) %d.00", 4*2*(days-1)),
		"Base fee, plan dear 10.00", "Entity instances (daily peak) 50.00",
	}, lineTexts(f.statement(e.ID, o)))
}

// A row counts for the plan version that it names, whatever was in force at its time: a
// live report that a flush brought after a change, and a report of an earlier time. One
// that names none, or one of another month, counts for what was in force at its time.
func TestUsageCountsForThePlanThatItNames(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	noon := hour(today, 12)
	o := f.organizationSince("Acme", "free", period.Start().AddDate(0, -1, 0)).ID
	f.changePlan(o, noon, "pro")
	f.changePlan(o, hour(today+5, 0), "free")
	f.publishAt("pro", hour(today+1, 0))
	f.changePlan(o, hour(today+8, 0), "")
	w := f.instance()
	for i, r := range []struct {
		at      time.Time
		plan    string
		version int
	}{
		{noon.Add(time.Second), "free", 1},          // admitted before the change, flushed after it
		{noon.Add(-time.Second), "pro", 1},          // the other way round: no segment of pro begins before
		{hour(today+1, 2), "pro", 1},                // reserved before the new version
		{hour(today+2, 2), "pro", 2}, {noon, "", 0}, // live; of whoever had it
		{hour(today+6, 2), "free", 1},       // the second time on free
		{hour(today+3, 2), "free", 1},       // reserved the first time
		{hour(today+2, 3), "enterprise", 1}, // of another month
		{hour(today+9, 2), "free", 1},       // reserved before the end
		{hour(today+9, 2), "", 0},           // after the end
		{hour(today+9, 3), "enterprise", 1}, // after the end, of another month
	} {
		w.flush(under(rowAt(o, evaluations, calendar.DayOf(r.at), 1<<i, r.at), r.plan, r.version))
	}
	got := map[stretch]int64{}
	r := f.ratables(f.frozen(period, "run").ID, 10)[o]
	of := stretches(r)
	for _, s := range r.OrganizationPeriod.Segments {
		for _, stretch := range of {
			if !s.Start.Before(stretch.Start) && s.Start.Before(stretch.End) {
				for _, u := range s.Usage {
					got[stretch] += u.Value
				}
			}
		}
	}
	require.Equal(t, map[stretch]int64{
		{period.Start(), noon, "free", 1}:               1<<0 | 1<<6,
		{noon, hour(today+1, 0), "pro", 1}:              1<<1 | 1<<2 | 1<<4,
		{hour(today+1, 0), hour(today+5, 0), "pro", 2}:  1<<3 | 1<<7,
		{hour(today+5, 0), hour(today+8, 0), "free", 1}: 1<<5 | 1<<8,
		{hour(today+8, 0), period.End(), "", 0}:         1<<9 | 1<<10,
	}, got)
}

// Taken apart by segments, nothing is lost and nothing counts twice: sums add up to the
// export's total, the highest peak is its peak, the last level its level, and
// unit-seconds add up to the microsecond. Sums and peaks are where the rows' plans and
// times put them.
func TestSegmentsAddUpToTheTotals(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	// Each run has a month of its own, and levels of its own that end with it.
	next := calendar.PeriodOf(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
	rapid.Check(t, func(rt *rapid.T) {
		period := next
		next = calendar.PeriodOf(period.End())
		o := f.organizationSince("Acme", "free", period.Start().AddDate(0, 0, rapid.IntRange(-20, 20).Draw(rt, "made"))).ID
		millisecond := rapid.IntRange(0, 30*86_400_000)
		for range rapid.IntRange(1, 4).Draw(rt, "changes") {
			at := period.Start().Add(time.Duration(millisecond.Draw(rt, "at")) * time.Millisecond)
			f.exec(`INSERT INTO organization_plans VALUES ($1, $2, nullif($3, '')) ON CONFLICT DO NOTHING`, o, at, rapid.SampledFrom([]string{"free", "pro", "enterprise", ""}).Draw(rt, "plan"))
		}
		writers := []*writer{f.instance(), f.instance()}
		var flushed []meter.Row
		first, days := period.FirstDay(), int(period.LastDay()-period.FirstDay())
		flush := func(batches, from int) {
			for range batches {
				rows := map[[4]any]meter.Row{}
				for range rapid.IntRange(1, 4).Draw(rt, "rows") {
					day := first + calendar.Day(rapid.IntRange(from, days).Draw(rt, "day"))
					m := rapid.SampledFrom([]string{evaluations, entities, storage, storage}).Draw(rt, "meter")
					at := day.Start().Add(time.Duration(rapid.IntRange(0, 86_399_999).Draw(rt, "millisecond")) * time.Millisecond)
					r := rowAt(o, m, day, rapid.Int64Range(0, 1_000_000_000).Draw(rt, "value"), at)
					if r.Plan = rapid.SampledFrom([]string{"", "free", "pro", "enterprise"}).Draw(rt, "named plan"); r.Plan != "" {
						r.PlanVersion = rapid.SampledFrom([]int{1, 1, 1, 2}).Draw(rt, "version")
					}
					rows[[4]any{m, day, r.Plan, r.PlanVersion}] = r
				}
				var batch []meter.Row
				for _, r := range rows {
					batch = append(batch, r)
				}
				flushed = append(flushed, batch...)
				writers[rapid.IntRange(0, 1).Draw(rt, "writer")].flush(batch...)
			}
		}
		e, until := finalExport(period, "run"), first+calendar.Day(days)+1
		if rapid.Bool().Draw(rt, "provisional") {
			ofTheMonth := time.Duration(rapid.Float64Range(0, 1).Draw(rt, "cut") * float64(period.End().Sub(period.Start())))
			e.Provisional, e.Cut = true, period.Start().Add(max(ofTheMonth, time.Second)).Truncate(time.Millisecond).Add(-time.Millisecond)
			until = calendar.DayOf(e.Cut)
		}
		flush(rapid.IntRange(1, 8).Draw(rt, "batches"), -1)
		for day := first - 1; day < min(until, first+calendar.Day(rapid.IntRange(-1, days+1).Draw(rt, "rolled days"))); day++ {
			f.rollUp(day)
		}
		// A level of the day before that comes now is in the segments, and in the total with the next rollup alone.
		flush(rapid.IntRange(0, 3).Draw(rt, "batches after rollups"), 0)
		begun, _, err := f.BeginExport(t.Context(), e)
		require.NoError(rt, err)
		f.freeze(begun.ID)
		checkSegments(rt, f, begun, o)
		flushed = slices.DeleteFunc(flushed, func(r meter.Row) bool {
			return r.Meter == storage || r.Day < first || r.Day > calendar.DayOf(e.Cut.Add(-time.Microsecond))
		})
		checkPlaces(rt, f.ratables(begun.ID, 100)[o].OrganizationPeriod, flushed)
	})
}

// checkPlaces compares sums and peaks by segment with the rows, each put where it belongs.
func checkPlaces(t require.TestingT, a billing.OrganizationPeriod, rows []meter.Row) {
	want := make([]map[string]int64, len(a.Segments))
	for i := range want {
		want[i] = map[string]int64{}
	}
	for _, r := range rows {
		place, named := -1, -1
		for i, s := range a.Segments {
			if place < 0 || !s.Start.After(r.At) {
				place = i
			}
			if s.Plan.Key != "" && s.Plan.Key == r.Plan && s.Plan.Version == r.PlanVersion && (named < 0 || !s.Start.After(r.At)) {
				named = i
			}
		}
		if named >= 0 {
			place = named
		}
		want[place][r.Meter] = r.Aggregation.Fold(want[place][r.Meter], r.Value)
	}
	for i, s := range a.Segments {
		for _, m := range []string{evaluations, entities} {
			var got int64
			for _, u := range s.Usage {
				if u.Meter == m {
					got = u.Value
				}
			}
			if len(a.Segments) > 1 {
				require.Equal(t, want[i][m], got, "%s in segment %d of %v", m, i, a.Segments)
			}
		}
	}
}

// checkSegments compares an organization's segments with its totals.
func checkSegments(t require.TestingT, f *fixture, e billing.Export, organization uuid.UUID) {
	totals := map[string]billing.UsageTotal{}
	for _, total := range f.totals(e.ID, 100) {
		if total.Organization == organization {
			totals[total.Meter] = total
		}
	}
	period := f.ratables(e.ID, 100)[organization].OrganizationPeriod
	got := map[string]billing.SegmentUsage{}
	for i, s := range period.Segments {
		if i > 0 {
			require.Equal(t, period.Segments[i-1].End, s.Start, "no gap")
		}
		for _, u := range s.Usage {
			total, there := totals[u.Meter]
			require.True(t, there, "usage of %s that isn't in the total", u.Meter)
			sum := got[u.Meter]
			got[u.Meter] = billing.SegmentUsage{
				Meter: u.Meter, Value: total.Aggregation.Fold(sum.Value, u.Value), UnitSeconds: sum.UnitSeconds.Add(u.UnitSeconds),
			}
		}
	}
	for m, total := range totals {
		require.Equal(t, total.Value, got[m].Value, m)
		if total.UnitSeconds == "" {
			continue
		}
		want, err := decimal.NewFromString(total.UnitSeconds)
		require.NoError(t, err)
		require.True(t, want.Equal(got[m].UnitSeconds), "%s: %s in all, %s by segment", m, want, got[m].UnitSeconds)
	}
}
