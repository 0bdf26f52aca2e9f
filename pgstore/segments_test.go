package pgstore_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// stretch is a time with one plan version, without its usage. The plan is empty where
// there was no contract.
type stretch struct {
	Start, End time.Time
	Plan       string
	Version    int
}

// stretches returns the plans over time: segments of one plan version that follow each
// other, as where a day begins that two plans share, are one stretch.
func stretches(r billing.Ratable) []stretch {
	var out []stretch
	for _, s := range r.OrganizationPeriod.Segments {
		if n := len(out) - 1; n >= 0 && out[n].Plan == s.Plan.Key && out[n].Version == s.Plan.Version && out[n].End.Equal(s.Start) {
			out[n].End = s.End
			continue
		}
		out = append(out, stretch{s.Start, s.End, s.Plan.Key, s.Plan.Version})
	}
	return out
}

// publishAt publishes the next version of a plan as of a time.
func (f *fixture) publishAt(plan string, at time.Time) {
	f.t.Helper()
	p := plans.Plan{Key: plan, Name: "Plan " + plan}
	kept, err := f.PublishPlan(f.t.Context(), p)
	require.NoError(f.t, err)
	f.exec(`UPDATE plans SET published_at = $3 WHERE key = $1 AND version = $2`, plan, kept.Version, at)
}

// Segments follow each other from the period's start, or from when the organization was
// made, to the cut.
func TestSegments(t *testing.T) {
	t.Parallel()
	start, end := period.Start(), period.End()
	before, midday, evening := start.AddDate(0, -2, 0), hour(today, 12), hour(today, 18)
	cases := []struct {
		name string
		// made is when the organization was, on the plan free; zero: before the period.
		made    time.Time
		changes map[time.Time]string
		// published are the times of new versions of pro.
		published []time.Time
		used      bool
		want      []stretch
	}{
		{name: "no change", want: []stretch{{start, end, "free", 1}}},
		{
			name: "a change in the middle of a day", changes: map[time.Time]string{midday: "pro"},
			want: []stretch{{start, midday, "free", 1}, {midday, end, "pro", 1}},
		},
		{
			name: "two changes in one day", changes: map[time.Time]string{midday: "pro", evening: "enterprise"},
			want: []stretch{{start, midday, "free", 1}, {midday, evening, "pro", 1}, {evening, end, "enterprise", 1}},
		},
		{
			name: "there and back", changes: map[time.Time]string{midday: "pro", evening: "free"},
			want: []stretch{{start, midday, "free", 1}, {midday, evening, "pro", 1}, {evening, end, "free", 1}},
		},
		{
			name: "a new version in the period", changes: map[time.Time]string{before: "pro"}, published: []time.Time{midday},
			want: []stretch{{start, midday, "pro", 1}, {midday, end, "pro", 2}},
		},
		{
			name: "two new versions, and the plan between them", changes: map[time.Time]string{midday: "pro"},
			published: []time.Time{hour(today, 6), evening},
			want:      []stretch{{start, midday, "free", 1}, {midday, evening, "pro", 2}, {evening, end, "pro", 3}},
		},
		{
			name: "a version and the change to it at the same time", changes: map[time.Time]string{midday: "pro"}, published: []time.Time{midday},
			want: []stretch{{start, midday, "free", 1}, {midday, end, "pro", 2}},
		},
		{
			name: "versions at the start and the end", changes: map[time.Time]string{before: "pro"}, published: []time.Time{start, end},
			want: []stretch{{start, end, "pro", 2}},
		},
		{name: "a change at the start", changes: map[time.Time]string{start: "pro"}, want: []stretch{{start, end, "pro", 1}}},
		{name: "a change at the end", changes: map[time.Time]string{end: "pro"}, want: []stretch{{start, end, "free", 1}}},
		{
			name: "a change just before the end", changes: map[time.Time]string{end.Add(-time.Microsecond): "pro"},
			want: []stretch{{start, end.Add(-time.Microsecond), "free", 1}, {end.Add(-time.Microsecond), end, "pro", 1}},
		},
		{name: "changes outside of the period", changes: map[time.Time]string{before: "pro", end.AddDate(0, 0, 3): "enterprise"}, want: []stretch{{start, end, "pro", 1}}},
		{name: "made in the period", made: midday, want: []stretch{{start, midday, "", 0}, {midday, end, "free", 1}}},
		{name: "made at the start", made: start, want: []stretch{{start, end, "free", 1}}},
		{name: "made at the end", made: end},
		{name: "made after the period, with usage", made: end.AddDate(0, 0, 3), used: true, want: []stretch{{start, end, "", 0}}},
		{
			name: "made after the period, with usage and another plan since", made: end.AddDate(0, 0, 3), used: true,
			changes: map[time.Time]string{end.AddDate(0, 0, 4): "pro"}, want: []stretch{{start, end, "", 0}},
		},
		{name: "ended in the period", changes: map[time.Time]string{midday: ""}, want: []stretch{{start, midday, "free", 1}, {midday, end, "", 0}}},
		{
			name: "ended and begun anew", changes: map[time.Time]string{midday: "", evening: "pro"},
			want: []stretch{{start, midday, "free", 1}, {midday, evening, "", 0}, {evening, end, "pro", 1}},
		},
		{name: "ended before the period", changes: map[time.Time]string{before: ""}},
		{name: "ended before the period, with usage", changes: map[time.Time]string{before: ""}, used: true, want: []stretch{{start, end, "", 0}}},
		{name: "made and ended on one day", made: midday, changes: map[time.Time]string{evening: ""}, want: []stretch{{start, midday, "", 0}, {midday, evening, "free", 1}, {evening, end, "", 0}}},
	}
	f := newFixture(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f.exec(`DELETE FROM plan_limits WHERE plan_version > 1`)
			f.exec(`DELETE FROM plans WHERE version > 1`)
			made := c.made
			if made.IsZero() {
				made = before.AddDate(0, -1, 0)
			}
			o := f.organizationSince(c.name, "free", made).ID
			for at, plan := range c.changes {
				f.changePlan(o, at, plan)
			}
			for _, at := range c.published {
				f.publishAt("pro", at)
			}
			if c.used {
				f.instance().flush(row(o, evaluations, today, 5))
			}
			e := f.frozen(period, c.name)
			got, there := f.ratables(e.ID, 100)[o]
			require.Equal(t, c.want != nil, there)
			require.Empty(t, cmp.Diff(c.want, stretches(got)))
			if c.used {
				require.Equal(t, []billing.SegmentUsage{{Meter: evaluations, Value: 5}}, got.OrganizationPeriod.Segments[0].Usage)
			}
		})
	}
}

// Where a plan has no row, the built-in one has version 0: rating looks it up.
func TestSegmentsOfABuiltInPlan(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organizationSince("Acme", "pro", period.Start()).ID
	f.exec(`DELETE FROM plan_limits`)
	f.exec(`DELETE FROM plans`)
	e := f.frozen(period, "run")
	r := f.ratables(e.ID, 10)[o]
	require.Equal(t, []stretch{{period.Start(), period.End(), "pro", 0}}, stretches(r))
	catalog, err := f.Catalog(t.Context())
	require.NoError(t, err)
	_, err = billing.Rate(r, catalog)
	require.NoError(t, err)
}

// A provisional export's segments end with its cut.
func TestSegmentsEndWithTheCut(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organizationSince("Acme", "free", period.Start().AddDate(0, -1, 0)).ID
	cut := hour(today, 12)
	f.changePlan(o, hour(today, 6), "pro")
	f.changePlan(o, cut, "enterprise")
	e := finalExport(period, "run")
	e.Provisional, e.Cut = true, cut
	_, _, err := f.BeginExport(t.Context(), e)
	require.NoError(t, err)
	f.freeze(e.ID)
	r := f.ratables(e.ID, 10)[o]
	require.Equal(t, []stretch{{period.Start(), hour(today, 6), "free", 1}, {hour(today, 6), cut, "pro", 1}}, stretches(r))
	require.Equal(t, cut, r.OrganizationPeriod.Cut.UTC())
}

// What is rated is what was frozen, whatever is changed afterwards.
func TestSegmentsAreFrozen(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organizationSince("Acme", "free", period.Start()).ID
	f.changePlan(o, hour(today, 12), "pro")
	w := f.instance()
	w.flush(rowAt(o, evaluations, today, 5, hour(today, 10)), rowAt(o, evaluations, today+1, 7, hour(today+1, 10)))
	e := f.frozen(period, "run")
	frozen := f.ratables(e.ID, 10)
	catalog, err := f.ExportCatalog(t.Context(), e.ID)
	require.NoError(t, err)
	require.Equal(t, []string{"free", "pro"}, []string{catalog.Plans[0].Key, catalog.Plans[1].Key})
	require.Len(t, catalog.Plans, 2)

	f.exec(`UPDATE meters SET name = name || ', new'`)
	f.changePlan(o, hour(today, 18), "enterprise")
	f.publishAt("pro", hour(today, 20))
	w.flush(row(o, evaluations, today, 100))
	f.rollUp(today)
	f.freeze(e.ID)
	require.Empty(t, cmp.Diff(frozen, f.ratables(e.ID, 1), cmp.AllowUnexported(calendar.Period{})))
	again, err := f.ExportCatalog(t.Context(), e.ID)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(catalog, again))
}

// Pages hold every organization once, in the order of IDs, whatever their size.
func TestRatingPages(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	var all []uuid.UUID
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		all = append(all, f.customer(name))
	}
	e := f.frozen(period, "run")
	for size, want := range map[int][]uuid.UUID{
		1: all, 2: {all[1], all[3], all[4]}, 5: {all[4]}, 100: {all[4]}, 0: all,
	} {
		pages, err := f.RatingPages(t.Context(), e.ID, size)
		require.NoError(t, err)
		require.Equal(t, want, pages, "size %d", size)
		require.Len(t, f.ratables(e.ID, max(size, 1)), len(all))
	}
	none, err := f.Ratables(t.Context(), e.ID, all[4], uuid.Max, 10)
	require.NoError(t, err)
	require.Empty(t, none)

	open := f.beginExport(secondPeriod, "run")
	_, err = f.RatingPages(t.Context(), open.ID, 10)
	require.ErrorIs(t, err, billing.ErrExportNotFrozen)
	_, err = f.Ratables(t.Context(), open.ID, uuid.Nil, uuid.Max, 10)
	require.ErrorIs(t, err, billing.ErrExportNotFrozen)
	require.ErrorIs(t, f.PutStatements(t.Context(), open.ID, billing.RatedPage{}), billing.ErrExportNotFrozen)
	require.ErrorIs(t, f.IssueExport(t.Context(), open.ID), billing.ErrExportNotFrozen)
}
