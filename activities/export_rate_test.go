package activities_test

import (
	"context"
	"maps"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/activities"
)

// There are at most MaxPages pages, however many organizations there are.
func TestPlanRating(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ organizations, ask, size, pages int }{
		{0, 10, 10, 0}, {1, 10, 10, 1}, {25, 10, 10, 3}, {801, 1, 3, 267}, {400, 1, 1, 400}, {5, 0, 1, 5},
	} {
		s := newClosing(tc.organizations)
		a := newRatedExport(s, memory(t), 0)
		out, err := run[activities.PlanRatingResult](t, newEnvironment(t, a), a.PlanRating, activities.PlanRatingInput{ID: uuid.Max, PageSize: tc.ask})
		require.NoError(t, err)
		require.Equal(t, []int{tc.size}, s.sizes)
		require.Len(t, out.Until, tc.pages)
		require.LessOrEqual(t, len(out.Until), activities.MaxPages)
	}
}

// What can't be rated is parked, and the others go on. Rated again, it is kept once.
func TestRateAccounts(t *testing.T) {
	t.Parallel()
	s := newClosing(12, 4, 9)
	a := newRatedExport(s, memory(t), 3)
	in := activities.RateOrganizationsInput{ID: uuid.Max, After: organization(1), Until: organization(11)}
	e := newEnvironment(t, a)
	out, err := run[activities.RateOrganizationsResult](t, e, a.RateOrganizations, in)
	require.NoError(t, err)
	require.Equal(t, activities.RateOrganizationsResult{Rated: 8, Parked: 2}, out)
	require.NotContains(t, s.statements, organization(1), "the page begins after it")
	require.NotContains(t, s.statements, organization(12), "the page ends before it")
	require.Contains(t, s.parked[organization(4)], `plan "pro" version 99 is not in the catalog`)
	require.Contains(t, heartbeats[activities.RateHeartbeat](t, e), activities.RateHeartbeat{
		After: organization(4), Counts: activities.RateOrganizationsResult{Rated: 2, Parked: 1},
	})
	statements, parked := maps.Clone(s.statements), maps.Clone(s.parked)
	again, err := run[activities.RateOrganizationsResult](t, newEnvironment(t, a), a.RateOrganizations, in)
	require.NoError(t, err)
	require.Equal(t, out, again)
	require.Equal(t, statements, s.statements)
	require.Equal(t, parked, s.parked)
}

// Another attempt goes on after the last organization that was heartbeated, with the counts.
func TestRateAccountsGoesOnFromItsHeartbeat(t *testing.T) {
	t.Parallel()
	s := newClosing(10)
	a := newRatedExport(s, memory(t), 3)
	e := newEnvironment(t, a)
	e.SetHeartbeatDetails(activities.RateHeartbeat{After: organization(6), Counts: activities.RateOrganizationsResult{Rated: 5, Parked: 1}})
	out, err := run[activities.RateOrganizationsResult](t, e, a.RateOrganizations, activities.RateOrganizationsInput{ID: uuid.Max, Until: organization(10)})
	require.NoError(t, err)
	require.Equal(t, activities.RateOrganizationsResult{Rated: 9, Parked: 1}, out)
	require.Len(t, s.statements, 4)
	require.NotContains(t, s.tried, organization(6))
}

// Wherever an attempt ends, the next one completes the page, and the counts are those of all.
func TestRateAccountsInTwoAttempts(t *testing.T) {
	t.Parallel()
	blobs := memory(t)
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.IntRange(1, 20).Draw(r, "organizations")
		s := newClosing(n, rapid.IntRange(1, 20).Draw(r, "cursed"))
		a := newRatedExport(s, blobs, rapid.IntRange(1, 7).Draw(r, "batch"))
		in := activities.RateOrganizationsInput{ID: uuid.Max, Until: organization(n)}
		fails := rapid.IntRange(1, 20).Draw(r, "fails")
		s.put = func(_ context.Context, at int) error {
			if at == fails {
				return errAway
			}
			return nil
		}
		first := newEnvironment(t, a)
		out, err := run[activities.RateOrganizationsResult](t, first, a.RateOrganizations, in)
		if err != nil {
			beats := heartbeats[activities.RateHeartbeat](t, first)
			second := newEnvironment(t, a)
			second.SetHeartbeatDetails(beats[len(beats)-1])
			out, err = run[activities.RateOrganizationsResult](t, second, a.RateOrganizations, in)
		}
		require.NoError(r, err)
		require.EqualValues(r, n, out.Rated+out.Parked)
		require.EqualValues(r, len(s.statements), out.Rated)
		require.EqualValues(r, len(s.parked), out.Parked)
	})
}

// A cancel and a stop of the worker end it between two batches.
func TestRateAccountsLetsGo(t *testing.T) {
	t.Parallel()
	in := activities.RateOrganizationsInput{ID: uuid.Max, Until: organization(5)}
	s := newClosing(5)
	a := newRatedExport(s, memory(t), 1)
	e := newEnvironment(t, a)
	ctx, cancel := context.WithCancel(t.Context())
	e.cancelWith(ctx)
	s.put = func(context.Context, int) error { cancel(); return nil }
	_, err := run[activities.RateOrganizationsResult](t, e, a.RateOrganizations, in)
	require.ErrorContains(t, err, "canceled")
	require.Len(t, s.statements, 1)

	e = newEnvironment(t, a)
	s.put = func(_ context.Context, n int) error {
		if n == 3 {
			close(e.stop)
		}
		return nil
	}
	_, err = run[activities.RateOrganizationsResult](t, e, a.RateOrganizations, in)
	requireTriedAgain(t, err, "another one takes over RateOrganizations")
	require.Len(t, s.statements, 2)
}

func TestRetryParked(t *testing.T) {
	t.Parallel()
	s := newClosing(300, 1, 7, 256, 300)
	a := newRatedExport(s, memory(t), 2)
	_, err := run[activities.RateOrganizationsResult](t, newEnvironment(t, a), a.RateOrganizations, activities.RateOrganizationsInput{ID: uuid.Max, Until: uuid.Max})
	require.NoError(t, err)
	require.Len(t, s.parked, 4)

	s.cursed = map[uuid.UUID]bool{organization(7): true}
	clear(s.tried)
	out, err := run[activities.RateOrganizationsResult](t, newEnvironment(t, a), a.RetryParked, activities.RetryParkedInput{ID: uuid.Max})
	require.NoError(t, err)
	require.Equal(t, activities.RateOrganizationsResult{Rated: 3, Parked: 1}, out)
	require.Equal(t, map[uuid.UUID]int{organization(1): 1, organization(7): 1, organization(256): 1, organization(300): 1}, s.tried, "each once, and nobody else")
	require.Len(t, s.statements, 299)
	require.Contains(t, s.parked, organization(7))
}
