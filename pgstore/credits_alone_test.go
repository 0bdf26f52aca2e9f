package pgstore_test

import (
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/money"
)

// TestGrantsOfOnePersonAddUp splits an amount that takes a second person into grants that are each below
// it, one after the other, at once, and in another currency; what a second person has approved doesn't
// count, nor does what is older than a day.
func TestGrantsOfOnePersonAddUp(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	root := f.newKey(accounts.RoleAdmin, "root", accounts.Key{})
	ada, ben := f.newKey(accounts.RoleFinance, "ada", root), f.newKey(accounts.RoleFinance, "ben", root)
	most := decimal.NewFromInt(1000)
	grantOf := func(o uuid.UUID, currency money.Currency, amount string) billing.CreditGrant {
		return billing.CreditGrant{
			Organization: o, Currency: currency, Amount: decimal.RequireFromString(amount), Priority: 50, EffectiveAt: time.Now().UTC(), Note: "Order 7",
		}
	}
	grant := func(g billing.CreditGrant) error {
		_, err := f.GrantCreditAlone(t.Context(), g, most)
		return err
	}

	t.Run("one after the other", func(t *testing.T) {
		o := f.organization("Acme", "free").ID
		require.NoError(t, grant(grantOf(o, "USD", "999.99")))
		require.ErrorIs(t, grant(grantOf(o, "USD", "0.02")), accounts.ErrSecondPerson)
		require.NoError(t, grant(grantOf(o, "USD", "0.01")))
		require.NoError(t, grant(grantOf(o, "EUR", "1000")), "another currency has another amount")
		require.NoError(t, grant(grantOf(f.organization("Beta", "free").ID, "USD", "1000")), "and another organization")

		p, err := f.ProposeCredit(t.Context(), grantOf(o, "EUR", "5000"), ada.ID)
		require.NoError(t, err)
		_, err = f.DecideProposal(t.Context(), p.ID, by(ben, true))
		require.NoError(t, err)
		f.exec(`UPDATE credit_grants SET created_at = created_at - interval '24 hours 1 second' WHERE organization_id = $1 AND currency = 'EUR' AND id <> $2`, o, p.ID)
		require.NoError(t, grant(grantOf(o, "EUR", "1000")), "two people approved the other, and the first is a day old")
	})
	t.Run("at once", func(t *testing.T) {
		o := f.organization("Gamma", "free").ID
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if err := grant(grantOf(o, "USD", "300")); err != nil {
					assert.ErrorIs(t, err, accounts.ErrSecondPerson)
				}
			})
		}
		all.Wait()
		require.EqualValues(t, 3, f.count(`SELECT count(*) FROM credit_grants WHERE organization_id = $1`, o))
	})
	t.Run("of nobody", func(t *testing.T) {
		require.ErrorIs(t, grant(grantOf(uuid.New(), "USD", "1")), accounts.ErrOrganizationNotFound)
	})
}
