package workflows_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/workflows"
)

// expiring answers what was deleted.
func expiring(env environment) *billing.Expired {
	deleted := billing.Expired{Identities: 3, Windows: 1}
	env.OnActivity(onRollup.DeleteExpired, mock.Anything, mock.Anything).Return(deleted, nil).Once()
	return &deleted
}

// expiringCredits answers how many grants were over, as of the scheduled time.
func expiringCredits(env environment) *billing.ExpiredCredits {
	expired := billing.ExpiredCredits{Grants: 2}
	env.OnActivity(onCredits.ExpireCredits, mock.Anything, mock.MatchedBy(func(in activities.ExpireCreditsInput) bool {
		return calendar.DayOf(in.At) == friday+1
	})).Return(expired, nil).Once()
	return &expired
}

func TestHousekeeping(t *testing.T) {
	t.Parallel()
	env := scheduled(t, friday.End().Add(15*time.Minute))
	env.OnActivity(onRollup.EnsurePartitions, mock.Anything, activities.EnsurePartitionsInput{Day: friday, MonthsAhead: 3}).Return(nil).Once()
	deleted, credits := expiring(env), expiringCredits(env)
	out, err := ended[workflows.HousekeepingResult](t, env, workflows.Housekeeping, workflows.HousekeepingInput{})
	require.NoError(t, err)
	require.Equal(t, workflows.HousekeepingResult{Partitions: true, Expired: deleted, ExpiredCredits: credits}, out)
	require.Equal(t, out, progress[workflows.HousekeepingResult](t, env))
}

// Whatever step fails, the others are done, and the run says which it was.
func TestHousekeepingDoesWhatItCan(t *testing.T) {
	t.Parallel()
	env := scheduled(t, now)
	env.OnActivity(onRollup.EnsurePartitions, mock.Anything, mock.Anything).Return(permanently("no right")).Once()
	env.OnActivity(onRollup.DeleteExpired, mock.Anything, mock.Anything).Return(billing.Expired{}, permanently("no table")).Once()
	credits := expiringCredits(env)
	_, err := ended[workflows.HousekeepingResult](t, env, workflows.Housekeeping, workflows.HousekeepingInput{})
	requireRefused(t, err, workflows.TypeHousekeeping, "make partitions ahead: no right")
	require.ErrorContains(t, err, "delete what is kept for a time only: no table")
	p := progress[workflows.HousekeepingResult](t, env)
	require.Equal(t, credits, p.ExpiredCredits)
	require.Len(t, p.Failed, 2)
}

// A step that is tried again and again keeps the others from nothing.
func TestHousekeepingDoesNotWaitForOneStep(t *testing.T) {
	t.Parallel()
	env := scheduled(t, now)
	env.OnActivity(onRollup.EnsurePartitions, mock.Anything, mock.Anything).Return(nil).After(24 * time.Hour)
	deleted, credits := expiring(env), expiringCredits(env)
	env.RegisterDelayedCallback(func() {
		require.Equal(t, workflows.HousekeepingResult{Expired: deleted, ExpiredCredits: credits}, progress[workflows.HousekeepingResult](t, env))
		env.CancelWorkflow()
	}, time.Hour)
	_, err := ended[workflows.HousekeepingResult](t, env, workflows.Housekeeping, workflows.HousekeepingInput{})
	require.True(t, temporal.IsCanceledError(err), err)
}

func TestHousekeepingWithoutASchedule(t *testing.T) {
	t.Parallel()
	_, err := ended[workflows.HousekeepingResult](t, newEnvironment(t, "x"), workflows.Housekeeping, workflows.HousekeepingInput{})
	requireRefused(t, err, workflows.TypeInvalidInput, "is started by its schedule")
}
