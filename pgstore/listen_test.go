package pgstore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/pgstore"
	"github.com/riverline/tollgate/plans"
)

// listen listens as an instance until the test ends, and returns what arrives.
func (f *fixture) listen(instance uuid.UUID) <-chan pgstore.Change {
	f.t.Helper()
	changes := make(chan pgstore.Change, 100)
	ctx, cancel := context.WithCancel(f.t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Listen(ctx, instance, func(c pgstore.Change) { changes <- c }) }()
	f.t.Cleanup(func() {
		cancel()
		require.ErrorIs(f.t, <-done, context.Canceled)
	})
	require.Equal(f.t, pgstore.Change{Kind: pgstore.ChangeResync}, next(f.t, changes))
	return changes
}

func next(t testing.TB, changes <-chan pgstore.Change) pgstore.Change {
	t.Helper()
	select {
	case c := <-changes:
		named := c.Kind != pgstore.ChangeResync && c.Kind != pgstore.ChangeQuota
		require.Equal(t, named, c.Transaction != 0, "the transaction that made it")
		c.Transaction = 0
		return c
	case <-time.After(20 * time.Second):
		require.Fail(t, "no change arrived")
		return pgstore.Change{}
	}
}

func TestListenHearsChanges(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	changes := f.listen(uuid.Nil)

	o := f.organization("Acme", "free")
	organization := pgstore.Change{Kind: pgstore.ChangeOrganization, ID: o.ID.String()}

	pro := "pro"
	_, err := f.UpdateOrganization(t.Context(), o.ID, accounts.OrganizationChange{Plan: &pro})
	require.NoError(t, err)
	require.Equal(t, organization, next(t, changes), "the organization and its history of plans are one change, and nobody knew it before")

	key, err := f.CreateKey(t.Context(), accounts.Key{Role: accounts.RoleTenant, Organization: o.ID, Name: "k"}, accounts.HashSecret("x"))
	require.NoError(t, err)
	require.Equal(t, pgstore.Change{Kind: pgstore.ChangeKey, ID: key.ID.String()}, next(t, changes))
	require.NoError(t, f.RevokeKey(t.Context(), key.ID))
	require.Equal(t, pgstore.Change{Kind: pgstore.ChangeKey, ID: key.ID.String()}, next(t, changes))

	_, err = f.PublishPlan(t.Context(), plans.Plan{Key: "team", Name: "Team"})
	require.NoError(t, err)
	require.Equal(t, pgstore.Change{Kind: pgstore.ChangePlans, ID: "team"}, next(t, changes), "one for the plan and its limits")

	f.exec(`UPDATE organizations SET name = 'By hand'`)
	require.Equal(t, organization, next(t, changes), "no writer can forget it")
	require.Empty(t, changes)
}

func TestListenConnectsAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free")
	changes := f.listen(uuid.Nil)
	terminated := f.count(`
		SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE datname = current_database() AND query = 'SELECT pg_backend_pid()'`)
	require.EqualValues(t, 1, terminated)
	require.Equal(t, pgstore.Change{Kind: pgstore.ChangeResync}, next(t, changes), "changes may have been missed")
	f.exec(`UPDATE organizations SET name = 'By hand'`)
	require.Equal(t, pgstore.Change{Kind: pgstore.ChangeOrganization, ID: o.ID.String()}, next(t, changes))
}

func TestListenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	err := f.Listen(ctx, uuid.Nil, func(pgstore.Change) { cancel(errors.New("enough")) })
	require.ErrorIs(t, err, context.Canceled)
}
