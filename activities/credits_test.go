package activities_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
)

// credits has grants that are over, and keeps what it was asked.
type credits struct {
	over  int
	err   error
	asked []time.Time
}

func (c *credits) ExpireCredits(_ context.Context, at time.Time, limit int) (int, error) {
	c.asked = append(c.asked, at)
	if c.err != nil {
		return 0, c.err
	}
	n := min(c.over, limit)
	c.over -= n
	return n, nil
}

func TestExpireCredits(t *testing.T) {
	t.Parallel()
	store := &credits{over: 6}
	a := activities.NewCredits(activities.CreditsConfig{Store: store, PageSize: 3})
	e := newEnvironment(t, a)
	expired, err := run[billing.ExpiredCredits](t, e, a.ExpireCredits, activities.ExpireCreditsInput{At: now})
	require.NoError(t, err)
	require.Equal(t, billing.ExpiredCredits{Grants: 6}, expired)
	require.Len(t, store.asked, 3, "until a page isn't full")
	require.True(t, now.Equal(store.asked[0]))

	_, err = run[billing.ExpiredCredits](t, e, a.ExpireCredits, activities.ExpireCreditsInput{})
	require.ErrorContains(t, err, "at is missing")
	store.err = errCurse
	_, err = run[billing.ExpiredCredits](t, e, a.ExpireCredits, activities.ExpireCreditsInput{At: now})
	require.ErrorContains(t, err, "the row is cursed")
}
