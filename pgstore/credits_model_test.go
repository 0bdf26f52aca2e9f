package pgstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/billing"
)

// An export burns for more organizations than one statement takes of uses, and gives all of it back.
func TestCreditsOfManyOrganizations(t *testing.T) {
	t.Parallel()
	const size = 4_000
	f := newFixture(t)
	f.exec(`INSERT INTO organizations (id, name) SELECT tollgate_uuidv7(), 'Acme ' || n FROM generate_series(1, $1::int) AS n`, size)
	f.exec(`INSERT INTO organization_plans (organization_id, effective_from, plan) SELECT id, created_at, 'free' FROM organizations`)
	f.exec(`
		INSERT INTO credit_grants (id, organization_id, currency, amount, priority, effective_at, note)
		SELECT tollgate_uuidv7(), id, 'USD', 10, 50, '2026-10-01', '' FROM organizations`)
	f.exec(`
		INSERT INTO credit_entries (id, grant_id, organization_id, kind, debit, credit, amount, currency, key)
		SELECT tollgate_uuidv7(), id, organization_id, 'grant', 'granted', 'customer_credit', amount, currency, 'grant/' || id FROM credit_grants`)
	export := f.creditExport("run")
	began := time.Now()
	step := func(what string) { t.Logf("%s after %s", what, time.Since(began).Round(time.Millisecond)) }

	frozen, err := f.FreezeCredits(t.Context(), export, today.Start())
	require.NoError(t, err)
	require.EqualValues(t, size, frozen)
	step("frozen")
	organizations := make([]uuid.UUID, 0, size)
	for after := uuid.Nil; len(organizations) < size; after = organizations[len(organizations)-1] {
		page, err := f.ListOrganizations(t.Context(), after, size)
		require.NoError(t, err)
		for _, o := range page {
			organizations = append(organizations, o.ID)
		}
	}
	found, err := f.ExportCredits(t.Context(), export, organizations)
	require.NoError(t, err)
	require.Len(t, found, size)
	step("read")
	uses := make([]billing.CreditUse, 0, size)
	for _, o := range organizations {
		used, left := billing.BurnDown(found[o], dollars("10"), "USD", today.Start())
		require.True(t, left.IsZero())
		uses = append(uses, used...)
	}
	burned, err := f.BurnCredits(t.Context(), export, uses)
	require.NoError(t, err)
	require.EqualValues(t, size, burned)
	step("burned")
	require.Zero(t, f.count(`SELECT count(*) FROM credit_balances WHERE remaining <> 0`))
	restored, err := f.RestoreCredits(t.Context(), export)
	require.NoError(t, err)
	require.EqualValues(t, size, restored)
	step("given back")
}

// Grants, burns, voids, expiries and restores in any order leave what the model says, and balanced books.
func TestCreditsMatchTheModel(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	runs := 0
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		o := f.organization("Acme", "pro").ID
		var grants []billing.CreditGrant
		remaining := map[uuid.UUID]decimal.Decimal{}
		type burn struct {
			export   uuid.UUID
			uses     []billing.CreditUse
			restored bool
		}
		var burns []*burn
		for step := range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"grant", "grant", "burn", "burn", "again", "restore", "void", "expire"}).Draw(rt, "step") {
			case "grant":
				g := creditOf(o, decimal.New(rapid.Int64Range(1, 2_000).Draw(rt, "amount"), -2).String())
				g.Priority = rapid.IntRange(0, 2).Draw(rt, "priority")
				if rapid.Bool().Draw(rt, "expires") {
					g.ExpiresAt = today.Start().AddDate(0, 0, rapid.IntRange(-1, 1).Draw(rt, "day"))
				}
				g = f.grant(g)
				grants = append(grants, g)
				remaining[g.ID] = g.Amount
			case "burn":
				// From what remains, or from what was granted at first: then it may fail.
				known := make([]billing.CreditGrant, len(grants))
				stale := rapid.Bool().Draw(rt, "stale")
				for i, g := range grants {
					known[i] = g
					if !stale {
						known[i].Remaining = remaining[g.ID]
					}
				}
				uses, _ := billing.BurnDown(known, decimal.New(rapid.Int64Range(1, 3_000).Draw(rt, "due"), -2), "USD", today.Start())
				b := &burn{export: f.creditExport(fmt.Sprintf("run-%d-%d", runs, step)), uses: uses}
				covered := true
				for _, u := range uses {
					covered = covered && u.Amount.LessThanOrEqual(remaining[u.Grant])
				}
				_, err := f.BurnCredits(t.Context(), b.export, uses)
				if !covered {
					require.ErrorIs(rt, err, billing.ErrCreditChanged)
					continue
				}
				require.NoError(rt, err)
				for _, u := range uses {
					remaining[u.Grant] = remaining[u.Grant].Sub(u.Amount)
				}
				burns = append(burns, b)
			case "again", "restore":
				if len(burns) == 0 {
					continue
				}
				b := rapid.SampledFrom(burns).Draw(rt, "export")
				if !b.restored && rapid.Bool().Draw(rt, "burn again") {
					n, err := f.BurnCredits(t.Context(), b.export, b.uses)
					require.NoError(rt, err)
					require.Zero(rt, n)
					continue
				}
				n, err := f.RestoreCredits(t.Context(), b.export)
				require.NoError(rt, err)
				if b.restored {
					require.Zero(rt, n)
					continue
				}
				b.restored = true
				require.EqualValues(rt, len(b.uses), n)
				for _, u := range b.uses {
					remaining[u.Grant] = remaining[u.Grant].Add(u.Amount)
				}
			case "void":
				if len(grants) == 0 {
					continue
				}
				g := rapid.SampledFrom(grants).Draw(rt, "grant")
				if _, err := f.VoidCredit(t.Context(), g.ID, "x"); err != nil {
					require.ErrorIs(rt, err, billing.ErrCreditSpent)
				}
				remaining[g.ID] = decimal.Zero
			case "expire":
				_, err := f.ExpireCredits(t.Context(), today.Start(), 1_000)
				require.NoError(rt, err)
				for _, g := range grants {
					if !g.UsableAt(today.Start()) {
						remaining[g.ID] = decimal.Zero
					}
				}
			}
		}
		found, err := f.Credits(t.Context(), o)
		require.NoError(rt, err)
		require.Len(rt, found, len(grants))
		for i, g := range found {
			require.Truef(rt, remaining[g.ID].Equal(g.Remaining), "grant %s has %s, the model %s", g.ID, g.Remaining, remaining[g.ID])
			if i > 0 {
				require.Negative(rt, billing.CompareCreditGrants(found[i-1], g), "in the order of burning")
			}
		}
		f.requireBalanced(rt)
	})
}
