package pgstore_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
)

func TestOrganizationsChangedSince(t *testing.T) {
	t.Parallel()
	store := newFixture(t)
	first, err := store.CreateOrganization(t.Context(), accounts.NewOrganization{Name: "First", Plan: "free"})
	require.NoError(t, err)
	second, err := store.CreateOrganization(t.Context(), accounts.NewOrganization{Name: "Second", Plan: "free"})
	require.NoError(t, err)

	changed, err := store.OrganizationsChangedSince(t.Context(), first.UpdatedAt)
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{first.ID, second.ID}, changed)

	plan := "pro"
	later, err := store.UpdateOrganization(t.Context(), first.ID, accounts.OrganizationChange{Plan: &plan})
	require.NoError(t, err)
	changed, err = store.OrganizationsChangedSince(t.Context(), second.UpdatedAt.Add(time.Microsecond))
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{first.ID}, changed)
	changed, err = store.OrganizationsChangedSince(t.Context(), later.UpdatedAt.Add(time.Microsecond))
	require.NoError(t, err)
	require.Empty(t, changed)
}
