package pgstore_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/plans"
)

func by(k accounts.Key, approve bool) accounts.ProposalDecision {
	return accounts.ProposalDecision{Key: k.ID, Approve: approve, Note: "said why"}
}

// TestProposalsTakeTwoPeople proposes grants of credit and plans, and holds that nothing of them is
// there before a second person approves, and all of it afterwards, once.
func TestProposalsTakeTwoPeople(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	o := f.organization("Acme", "free")
	root := f.newKey(accounts.RoleAdmin, "root", accounts.Key{})
	ada, ben := f.newKey(accounts.RoleFinance, "ada", root), f.newKey(accounts.RoleFinance, "ben", root)
	grant := billing.CreditGrant{
		Organization: o.ID, Currency: "USD", Amount: decimal.RequireFromString("5000.10"), Priority: 50, EffectiveAt: time.Now().UTC(), Note: "Order 7",
	}

	t.Run("credit", func(t *testing.T) {
		p, err := f.ProposeCredit(t.Context(), grant, ada.ID)
		require.NoError(t, err)
		require.Equal(t, accounts.Signer{Key: ada.ID, Name: "ada's", Owner: "ada"}, p.ProposedBy)
		require.Equal(t, accounts.ProposalPending, p.State)
		for name, who := range map[string]accounts.Key{"himself": ada, "another key of his": f.newKey(accounts.RoleFinance, "ADA", root)} {
			_, err := f.DecideProposal(t.Context(), p.ID, by(who, true))
			require.ErrorIs(t, err, accounts.ErrSecondPerson, name)
		}
		for name, who := range map[string]accounts.Key{"an administrator": root, "nobody": {ID: uuid.New()}} {
			_, err := f.DecideProposal(t.Context(), p.ID, by(who, true))
			require.ErrorIs(t, err, accounts.ErrNoActor, name)
		}
		require.Zero(t, f.count(`SELECT count(*) FROM credit_grants`))
		for range 2 {
			done, err := f.DecideProposal(t.Context(), p.ID, by(ben, true))
			require.NoError(t, err)
			require.Equal(t, accounts.ProposalApproved, done.State)
			require.Equal(t, "ben", done.DecidedBy.Owner)
		}
		_, err = f.DecideProposal(t.Context(), p.ID, by(ben, false))
		require.ErrorIs(t, err, accounts.ErrProposalDecided)
		credits, err := f.Credits(t.Context(), o.ID)
		require.NoError(t, err)
		require.Len(t, credits, 1)
		require.Equal(t, p.ID, credits[0].ID)
		require.Equal(t, "5000.1", credits[0].Remaining.String())
	})
	t.Run("one that is rejected", func(t *testing.T) {
		p, err := f.ProposeCredit(t.Context(), grant, ada.ID)
		require.NoError(t, err)
		_, err = f.DecideProposal(t.Context(), p.ID, by(ada, false))
		require.NoError(t, err, "who proposed it may take it back")
		_, err = f.DecideProposal(t.Context(), p.ID, by(ben, true))
		require.ErrorIs(t, err, accounts.ErrProposalDecided)
		require.EqualValues(t, 1, f.count(`SELECT count(*) FROM credit_grants`))
	})
	t.Run("what can't be", func(t *testing.T) {
		broken := grant
		broken.Amount = decimal.Zero
		_, err := f.ProposeCredit(t.Context(), broken, ada.ID)
		require.ErrorIs(t, err, fault.ErrInvalid)
		broken = grant
		broken.Organization = uuid.New()
		_, err = f.ProposeCredit(t.Context(), broken, ada.ID)
		require.ErrorIs(t, err, fault.ErrNotFound)
		_, err = f.Proposal(t.Context(), uuid.New())
		require.ErrorIs(t, err, fault.ErrNotFound)
		_, err = f.DecideProposal(t.Context(), uuid.New(), by(ben, true))
		require.ErrorIs(t, err, fault.ErrNotFound)
	})
	t.Run("plan", func(t *testing.T) {
		cem, dia := f.newKey(accounts.RoleAdmin, "cem", root), f.newKey(accounts.RoleAdmin, "dia", root)
		catalog, err := f.Catalog(t.Context())
		require.NoError(t, err)
		inForce, _ := catalog.Plan(metered("EUR").Key)
		wanted := inForce
		wanted.Version, wanted.Name = inForce.Version+1, "Another name"
		broken := wanted
		broken.Name, broken.PriceBooks = "Broken", []plans.PriceBook{{Currency: "BGN"}}
		_, err = f.ProposePlans(t.Context(), cem.ID, wanted, broken)
		require.ErrorIs(t, err, plans.ErrInvalidCatalog)
		none, err := f.Proposals(t.Context(), accounts.ProposalPending, uuid.Nil, 10)
		require.NoError(t, err)
		require.Empty(t, none, "all or none")
		proposed, err := f.ProposePlans(t.Context(), cem.ID, wanted, wanted)
		require.NoError(t, err)
		p, overtaken := proposed[0], proposed[1]
		_, err = f.DecideProposal(t.Context(), p.ID, by(cem, true))
		require.ErrorIs(t, err, accounts.ErrSecondPerson)
		_, err = f.DecideProposal(t.Context(), p.ID, by(dia, true))
		require.NoError(t, err)
		catalog, err = f.Catalog(t.Context())
		require.NoError(t, err)
		published, _ := catalog.Plan(wanted.Key)
		require.Equal(t, wanted.Version, published.Version)
		require.Equal(t, "Another name", published.Name)
		require.Equal(t, inForce.PriceBooks, published.PriceBooks, "prices are those that were proposed")

		_, err = f.DecideProposal(t.Context(), overtaken.ID, by(dia, true))
		require.ErrorIs(t, err, plans.ErrVersionPublished, "another version came between")
		waiting, err := f.Proposals(t.Context(), accounts.ProposalPending, uuid.Nil, 10)
		require.NoError(t, err)
		require.Len(t, waiting, 1)
		require.Equal(t, overtaken.ID, waiting[0].ID)
	})
}
