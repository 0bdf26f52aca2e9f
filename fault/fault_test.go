package fault_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/fault"
)

func TestNotFoundNamesTheThingAndMatchesItsKind(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("load: %w", accounts.ErrOrganizationNotFound.Of("0199"))
	require.EqualError(t, err, "load: organization 0199 not found")
	require.ErrorIs(t, err, accounts.ErrOrganizationNotFound)
	require.ErrorIs(t, err, fault.ErrNotFound)
	require.NotErrorIs(t, err, accounts.ErrKeyNotFound)
	require.NotErrorIs(t, err, accounts.ErrOrganizationNotFound.Of("0200"))
	require.NotErrorIs(t, fault.ErrNotFound, accounts.ErrOrganizationNotFound)
	require.NotErrorIs(t, errors.New("organization 0199 not found"), fault.ErrNotFound)

	var absent *fault.NotFoundError
	require.ErrorAs(t, err, &absent)
	require.Equal(t, "organization 0199", absent.What())
	require.Equal(t, "organization", accounts.ErrOrganizationNotFound.What())
	require.Equal(t, "thing", fault.ErrNotFound.What())
}
