package activities_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/plans"
)

// rollups answers as it is told, and keeps what it was asked.
type rollups struct {
	err   error
	asked []plans.Day
	ahead int
}

func (r *rollups) RollUpDay(_ context.Context, day plans.Day) (billing.DayRollup, error) {
	r.asked = append(r.asked, day)
	return billing.DayRollup{Day: day, Revision: 3}, r.err
}

func (r *rollups) DaysToRollUp(_ context.Context, from, to plans.Day) ([]plans.Day, error) {
	r.asked = append(r.asked, from, to)
	return []plans.Day{from, to}, r.err
}

func (r *rollups) EnsurePartitions(_ context.Context, day plans.Day, monthsAhead int) error {
	r.asked, r.ahead = append(r.asked, day), monthsAhead
	return r.err
}

func TestRollup(t *testing.T) {
	t.Parallel()
	day := plans.DayOf(now)
	r := &rollups{}
	a := activities.NewRollup(activities.RollupConfig{Store: r})
	e := newEnvironment(t, a)

	rollup, err := run[billing.DayRollup](t, e, a.FoldDay, activities.FoldDayInput{Day: day})
	require.NoError(t, err)
	require.Equal(t, billing.DayRollup{Day: day, Revision: 3}, rollup)
	require.Equal(t, []activities.FoldDayInput{{Day: day}}, heartbeats[activities.FoldDayInput](t, e))

	found, err := run[activities.DaysToRollUpResult](t, e, a.DaysToRollUp, activities.DaysToRollUpInput{From: day - 2, To: day})
	require.NoError(t, err)
	require.Equal(t, []plans.Day{day - 2, day}, found.Days)

	_, err = run[any](t, e, a.EnsurePartitions, activities.EnsurePartitionsInput{Day: day, MonthsAhead: 3})
	require.NoError(t, err)
	require.Equal(t, 3, r.ahead)
	require.Equal(t, []plans.Day{day, day - 2, day, day}, r.asked)
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
