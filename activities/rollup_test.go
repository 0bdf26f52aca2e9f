package activities_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
)

// rollups answers as it is told, and keeps what it was asked.
type rollups struct {
	err   error
	asked []calendar.Day
	ahead int
	// before is what DeleteExpired was asked.
	before time.Time
	// eventsBefore is what DeleteEvents was asked.
	eventsBefore time.Time
	// instancesBefore is what DeleteInstances was asked.
	instancesBefore time.Time
}

func (r *rollups) RollUpDay(_ context.Context, day calendar.Day) (billing.DayRollup, error) {
	r.asked = append(r.asked, day)
	return billing.DayRollup{Day: day, Revision: 3}, r.err
}

func (r *rollups) DaysToRollUp(_ context.Context, from, to calendar.Day) ([]calendar.Day, error) {
	r.asked = append(r.asked, from, to)
	return []calendar.Day{from, to}, r.err
}

func (r *rollups) EnsurePartitions(_ context.Context, day calendar.Day, monthsAhead int) error {
	r.asked, r.ahead = append(r.asked, day), monthsAhead
	return r.err
}

func (r *rollups) Reconcile(_ context.Context, from, to calendar.Day) (billing.Reconciliation, error) {
	r.asked = append(r.asked, from, to)
	found := billing.Reconciliation{From: from, To: to, Compared: []billing.Compared{{Comparison: billing.Comparisons()[0], Compared: 50, Different: 30}}}
	for range 30 {
		found.Differences = append(found.Differences, billing.Difference{Comparison: billing.Comparisons()[0]})
	}
	return found, r.err
}

func (r *rollups) DeleteExpired(_ context.Context, before time.Time) (billing.Expired, error) {
	r.before = before
	return billing.Expired{Identities: 5}, r.err
}

func (r *rollups) DeleteEvents(_ context.Context, before time.Time) (billing.Expired, error) {
	r.eventsBefore = before
	return billing.Expired{Events: 7, Endpoints: 1}, r.err
}

func (r *rollups) DropUsageRows(_ context.Context, later int) (int64, error) {
	return int64(later), r.err
}

func (r *rollups) DeleteInstances(_ context.Context, before time.Time) (billing.Expired, error) {
	r.instancesBefore = before
	return billing.Expired{Batches: 9, LostLeases: 3, Instances: 2}, r.err
}

func TestReconcile(t *testing.T) {
	t.Parallel()
	day := calendar.DayOf(now)
	r := &rollups{}
	var told []billing.Reconciliation
	a := activities.NewRollup(activities.RollupConfig{Store: r, Retention: activities.Retention{Events: 24 * time.Hour, LaterMonths: 4, Instances: 48 * time.Hour}, Reconciled: func(one billing.Reconciliation) { told = append(told, one) }})
	e := newEnvironment(t, a)

	found, err := run[activities.ReconcileResult](t, e, a.Reconcile, activities.ReconcileInput{From: day - 1, To: day})
	require.NoError(t, err)
	require.EqualValues(t, 30, found.Different)
	require.Len(t, found.First, 20, "a result stays small")
	require.Equal(t, []calendar.Day{day - 1, day}, r.asked)
	require.Len(t, told, 1)

	deleted, err := run[billing.Expired](t, e, a.DeleteExpired, activities.DeleteExpiredInput{Before: now})
	require.NoError(t, err)
	require.EqualValues(t, 5, deleted.Identities)
	require.True(t, now.Equal(r.before))
	require.True(t, r.eventsBefore.IsZero(), "a run of before there was a retention keeps them")
	deleted, err = run[billing.Expired](t, e, a.DeleteExpired, activities.DeleteExpiredInput{Before: now.Add(-time.Hour), At: now})
	require.NoError(t, err)
	require.Equal(t, billing.Expired{Identities: 5, Events: 7, Endpoints: 1, Months: 4, Batches: 9, LostLeases: 3, Instances: 2}, deleted)
	require.True(t, now.Add(-48*time.Hour).Equal(r.instancesBefore))
	require.True(t, now.Add(-24*time.Hour).Equal(r.eventsBefore))
	_, err = run[billing.Expired](t, e, a.DeleteExpired, activities.DeleteExpiredInput{})
	require.ErrorContains(t, err, "before is missing")

	r.err = permanentError("no table")
	_, err = run[activities.ReconcileResult](t, e, a.Reconcile, activities.ReconcileInput{From: day, To: day})
	require.ErrorContains(t, err, "no table")
	require.Len(t, told, 1, "nobody is told of what is not known")
}

func TestRollup(t *testing.T) {
	t.Parallel()
	day := calendar.DayOf(now)
	r := &rollups{}
	a := activities.NewRollup(activities.RollupConfig{Store: r})
	e := newEnvironment(t, a)

	rollup, err := run[billing.DayRollup](t, e, a.FoldDay, activities.FoldDayInput{Day: day})
	require.NoError(t, err)
	require.Equal(t, billing.DayRollup{Day: day, Revision: 3}, rollup)
	require.Equal(t, []activities.FoldDayInput{{Day: day}}, heartbeats[activities.FoldDayInput](t, e))

	found, err := run[activities.DaysToRollUpResult](t, e, a.DaysToRollUp, activities.DaysToRollUpInput{From: day - 2, To: day})
	require.NoError(t, err)
	require.Equal(t, []calendar.Day{day - 2, day}, found.Days)

	_, err = run[any](t, e, a.EnsurePartitions, activities.EnsurePartitionsInput{Day: day, MonthsAhead: 3})
	require.NoError(t, err)
	require.Equal(t, 3, r.ahead)
	require.Equal(t, []calendar.Day{day, day - 2, day, day}, r.asked)
}

// What a store says of its failures decides whether they are tried again.
func TestRollupFails(t *testing.T) {
	t.Parallel()
	for _, err := range []error{errAway, passingError("deadlock"), context.DeadlineExceeded} {
		a := activities.NewRollup(activities.RollupConfig{Store: &rollups{err: err}})
		_, got := run[billing.DayRollup](t, newEnvironment(t, a), a.FoldDay, activities.FoldDayInput{})
		requireTriedAgain(t, got, err.Error())
	}
	a := activities.NewRollup(activities.RollupConfig{Store: &rollups{err: errCurse}})
	e := newEnvironment(t, a)
	_, err := run[billing.DayRollup](t, e, a.FoldDay, activities.FoldDayInput{})
	requirePermanent(t, err, activities.TypePermanent, "the row is cursed")
	_, err = run[activities.DaysToRollUpResult](t, e, a.DaysToRollUp, activities.DaysToRollUpInput{})
	requirePermanent(t, err, activities.TypePermanent, "the row is cursed")
	_, err = run[any](t, e, a.EnsurePartitions, activities.EnsurePartitionsInput{})
	requirePermanent(t, err, activities.TypePermanent, "the row is cursed")
}
