package pgstore_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/fault"
)

func dollars(text string) decimal.Decimal { return decimal.RequireFromString(text) }

// creditOf is a grant of USD that is effective from the start of the month of today.
func creditOf(organization uuid.UUID, text string, changes ...func(*billing.CreditGrant)) billing.CreditGrant {
	g := billing.CreditGrant{
		Organization: organization, Currency: "USD", Amount: dollars(text), Priority: billing.DefaultCreditPriority,
		EffectiveAt: mustDay("2026-10-01").Start(), Note: "order 7",
	}
	for _, change := range changes {
		change(&g)
	}
	return g
}

func (f *fixture) grant(g billing.CreditGrant) billing.CreditGrant {
	f.t.Helper()
	granted, err := f.GrantCredit(f.t.Context(), g)
	require.NoError(f.t, err)
	return granted
}

// creditExport is an export to burn credits for. Each has a period of its own.
func (f *fixture) creditExport(run string) uuid.UUID {
	f.t.Helper()
	return f.beginExport(calendar.PeriodOf(today.Start()), run).ID
}

// remaining returns what remains of a grant.
func (f *fixture) remaining(g billing.CreditGrant) string {
	f.t.Helper()
	grants, err := f.Credits(f.t.Context(), g.Organization)
	require.NoError(f.t, err)
	for _, found := range grants {
		if found.ID == g.ID {
			return found.Remaining.String()
		}
	}
	f.t.Fatalf("organization %s has no grant %s", g.Organization, g.ID)
	return ""
}

// fillCredits fills the tables of credits.
func fillCredits(f *fixture, export uuid.UUID, organizations ...uuid.UUID) {
	for _, o := range organizations {
		f.grant(creditOf(o, "5"))
	}
	_, err := f.FreezeCredits(f.t.Context(), export, today.Start())
	require.NoError(f.t, err)
	for _, o := range organizations {
		g := f.grant(creditOf(o, "6"))
		f.exec(`INSERT INTO export_credit_uses VALUES ($1, $2, $3, 1, 0)`, export, o, g.ID)
	}
}

// requireBalanced checks the books: every entry moves one amount, so all accounts add up to zero, and each account to what
// its entries say.
func (f *fixture) requireBalanced(t require.TestingT) {
	rows, err := f.owner.Query(f.t.Context(), `
		SELECT account, sum(amount)::text FROM (
			SELECT debit AS account, -amount AS amount FROM credit_entries
			UNION ALL
			SELECT credit, amount FROM credit_entries
		) AS sides GROUP BY account`)
	require.NoError(t, err)
	defer rows.Close()
	sum := decimal.Zero
	for rows.Next() {
		var account, balance string
		require.NoError(t, rows.Scan(&account, &balance))
		sum = sum.Add(dollars(balance))
	}
	require.NoError(t, rows.Err())
	require.Truef(t, sum.IsZero(), "all accounts add up to %s", sum)
	require.Zero(t, f.count(`SELECT count(*) FROM credit_balances WHERE remaining < 0 OR remaining > amount`))
}

func TestCredits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "pro").ID
	given := creditOf(o, "100.50", func(g *billing.CreditGrant) { g.ExpiresAt = today.Start() })
	granted := f.grant(given)
	require.False(t, granted.CreatedAt.IsZero())
	given.ID, given.CreatedAt, given.Remaining = granted.ID, granted.CreatedAt, given.Amount
	require.Empty(t, cmp.Diff(given, granted))
	first := f.grant(creditOf(o, "7", func(g *billing.CreditGrant) { g.Priority = 0 }))

	found, err := f.Credits(t.Context(), o)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff([]billing.CreditGrant{first, granted}, found), "in the order of burning")

	entries, err := f.CreditEntries(t.Context(), o, uuid.Nil, 1)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, granted.ID, entries[0].Grant)
	require.Equal(t, billing.CreditGranted, entries[0].Kind)
	debit, credit := billing.CreditGranted.Accounts()
	require.Equal(t, debit, entries[0].Debit)
	require.Equal(t, credit, entries[0].Credit)
	require.Equal(t, "100.5", entries[0].Amount.String())
	require.Equal(t, "order 7", entries[0].Note)
	require.EqualValues(t, 7, entries[0].ID.Version())
	require.WithinDuration(t, time.Now(), time.Unix(entries[0].ID.Time().UnixTime()), time.Minute)
	entries, err = f.CreditEntries(t.Context(), o, entries[0].ID, 10)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, first.ID, entries[0].Grant)
	f.requireBalanced(t)
}

func TestGrantCreditRefuses(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "pro").ID
	for field, change := range map[string][]func(*billing.CreditGrant){
		"currency": {
			func(g *billing.CreditGrant) { g.Currency = "" },
			func(g *billing.CreditGrant) { g.Currency = "usd" },
		},
		"amount": {
			func(g *billing.CreditGrant) { g.Amount = decimal.Zero },
			func(g *billing.CreditGrant) { g.Amount = dollars("-1") },
			func(g *billing.CreditGrant) { g.Amount = dollars("0.001") },
			func(g *billing.CreditGrant) { g.Amount = dollars("1.5"); g.Currency = "JPY" },
			func(g *billing.CreditGrant) { g.Amount = dollars("1000000000000") },
		},
		"priority": {
			func(g *billing.CreditGrant) { g.Priority = -1 },
			func(g *billing.CreditGrant) { g.Priority = 101 },
		},
		"effective_at": {func(g *billing.CreditGrant) { g.EffectiveAt = time.Time{} }},
		"expires_at":   {func(g *billing.CreditGrant) { g.ExpiresAt = g.EffectiveAt }},
		"note":         {func(g *billing.CreditGrant) { g.Note = "a\nb" }, func(g *billing.CreditGrant) { g.Note = fmt.Sprintf("%0501d", 1) }},
	} {
		for _, c := range change {
			_, err := f.GrantCredit(t.Context(), creditOf(o, "5", c))
			var broken *fault.FieldError
			require.ErrorAs(t, err, &broken, field)
			require.Equal(t, field, broken.Field)
		}
	}
	_, err := f.GrantCredit(t.Context(), creditOf(uuid.Must(uuid.NewV7()), "5"))
	require.ErrorIs(t, err, fault.ErrNotFound)
	require.Zero(t, f.count(`SELECT count(*) FROM credit_grants`))
}

func TestVoidCredit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "pro").ID
	g, export := f.grant(creditOf(o, "10")), f.creditExport("run")
	burned, err := f.BurnCredits(t.Context(), export, []billing.CreditUse{{Grant: g.ID, Amount: dollars("4")}})
	require.NoError(t, err)
	require.EqualValues(t, 1, burned)

	voided, err := f.VoidCredit(t.Context(), g.ID, "by mistake")
	require.NoError(t, err)
	require.True(t, voided.Remaining.IsZero())
	require.False(t, voided.VoidedAt.IsZero())
	again, err := f.VoidCredit(t.Context(), g.ID, "by mistake")
	require.NoError(t, err)
	require.Equal(t, voided, again)
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM credit_entries WHERE kind = 'void' AND amount = 6`))

	// What a superseded export gives back can be voided, too.
	_, err = f.RestoreCredits(t.Context(), export)
	require.NoError(t, err)
	require.Equal(t, "4", f.remaining(g))
	_, err = f.VoidCredit(t.Context(), g.ID, "by mistake")
	require.NoError(t, err)
	require.Equal(t, "0", f.remaining(g))

	spent := f.grant(creditOf(o, "1"))
	_, err = f.BurnCredits(t.Context(), f.creditExport("another"), []billing.CreditUse{{Grant: spent.ID, Amount: dollars("1")}})
	require.NoError(t, err)
	_, err = f.VoidCredit(t.Context(), spent.ID, "")
	require.ErrorIs(t, err, billing.ErrCreditSpent)
	_, err = f.VoidCredit(t.Context(), uuid.Must(uuid.NewV7()), "")
	require.ErrorIs(t, err, billing.ErrCreditNotFound)
	_, err = f.VoidCredit(t.Context(), g.ID, "\x00")
	require.ErrorIs(t, err, fault.ErrInvalid)
	f.requireBalanced(t)
}

func TestExpireCredits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "pro").ID
	expires := func(day string) func(*billing.CreditGrant) {
		return func(g *billing.CreditGrant) { g.ExpiresAt = mustDay(day).Start() }
	}
	a, b := f.grant(creditOf(o, "10", expires("2026-10-10"))), f.grant(creditOf(o, "20", expires("2026-10-11")))
	later, never := f.grant(creditOf(o, "30", expires("2026-10-16"))), f.grant(creditOf(o, "40"))
	export := f.creditExport("run")
	_, err := f.BurnCredits(t.Context(), export, []billing.CreditUse{{Grant: a.ID, Amount: dollars("3")}})
	require.NoError(t, err)

	for _, want := range []int{1, 1, 0} {
		n, err := f.ExpireCredits(t.Context(), today.Start(), 1)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	require.Equal(t, []string{"0", "0", "30", "40"}, []string{f.remaining(a), f.remaining(b), f.remaining(later), f.remaining(never)})
	require.EqualValues(t, 27, f.count(`SELECT sum(amount)::bigint FROM credit_entries WHERE kind = 'expire' AND credit = 'breakage'`))

	// What comes back after the time is over goes with the next run.
	_, err = f.RestoreCredits(t.Context(), export)
	require.NoError(t, err)
	require.Equal(t, "3", f.remaining(a))
	n, err := f.ExpireCredits(t.Context(), today.Start(), 100)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	grants, err := f.Credits(t.Context(), o)
	require.NoError(t, err)
	require.False(t, grants[0].ExpiredAt.IsZero())
	require.True(t, grants[3].ExpiredAt.IsZero())
	f.requireBalanced(t)
}

func TestBurnCredits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o, p := f.organization("Acme", "pro").ID, f.organization("Bolt", "pro").ID
	a, b, c := f.grant(creditOf(o, "10")), f.grant(creditOf(o, "20")), f.grant(creditOf(p, "30"))
	export := f.creditExport("run")
	uses := []billing.CreditUse{{Grant: c.ID, Amount: dollars("30")}, {Grant: b.ID, Amount: dollars("5.25")}, {Grant: a.ID, Amount: dollars("10")}}
	for _, want := range []int64{3, 0} {
		burned, err := f.BurnCredits(t.Context(), export, uses)
		require.NoError(t, err)
		require.Equal(t, want, burned)
	}
	require.Equal(t, []string{"0", "14.75", "0"}, []string{f.remaining(a), f.remaining(b), f.remaining(c)})
	require.EqualValues(t, 1, f.count(`SELECT position FROM export_credit_uses WHERE grant_id = $1`, a.ID))

	// More than remains of one grant burns nothing of the others.
	other := f.creditExport("another")
	_, err := f.BurnCredits(t.Context(), other, []billing.CreditUse{{Grant: b.ID, Amount: dollars("1")}, {Grant: a.ID, Amount: dollars("0.01")}})
	require.ErrorIs(t, err, billing.ErrCreditChanged)
	require.Equal(t, "14.75", f.remaining(b))

	for _, want := range []int64{3, 0} {
		restored, err := f.RestoreCredits(t.Context(), export)
		require.NoError(t, err)
		require.Equal(t, want, restored)
	}
	require.Equal(t, []string{"10", "20", "30"}, []string{f.remaining(a), f.remaining(b), f.remaining(c)})
	f.requireBalanced(t)
}

// However many burn one grant at once, what remains of it covers all that did.
func TestCreditBurnsRaced(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "pro").ID
	g, h := f.grant(creditOf(o, "10")), f.grant(creditOf(o, "100"))
	const racers = 8
	exports := make([]uuid.UUID, racers)
	for i := range exports {
		exports[i] = f.creditExport(fmt.Sprint("run-", i))
	}
	errs := make([]error, racers)
	var group sync.WaitGroup
	for i := range racers {
		group.Go(func() {
			uses := []billing.CreditUse{{Grant: g.ID, Amount: dollars("3")}, {Grant: h.ID, Amount: dollars("1")}}
			if i%2 == 1 {
				uses[0], uses[1] = uses[1], uses[0]
			}
			_, errs[i] = f.BurnCredits(t.Context(), exports[i], uses)
		})
	}
	group.Wait()
	burned := 0
	for _, err := range errs {
		if err == nil {
			burned++
			continue
		}
		require.ErrorIs(t, err, billing.ErrCreditChanged)
	}
	require.Equal(t, 3, burned)
	require.Equal(t, "1", f.remaining(g))
	require.Equal(t, "97", f.remaining(h))
	f.requireBalanced(t)
}

// The net below the code: whoever inserts an entry past the store can't overdraw a grant either.
func TestEntriesCannotOverdraw(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "pro").ID
	g, export := f.grant(creditOf(o, "10")), f.creditExport("run")
	const entry = `
		INSERT INTO credit_entries (id, grant_id, organization_id, kind, debit, credit, amount, currency, export_id, key)
		VALUES (tollgate_uuidv7(), $1, $2, $3, $4, $5, $6, 'USD', $7, $8)`
	insert := func(kind, debit, credit, text string, export *uuid.UUID, key string) error {
		_, err := f.owner.Exec(t.Context(), entry, g.ID, o, kind, debit, credit, text, export, key)
		return err
	}
	const checkViolation = "23514"
	requireCode(t, checkViolation, insert("burn", "customer_credit", "revenue", "10.01", &export, "a"), "more than remains")
	requireCode(t, checkViolation, insert("restore", "revenue", "customer_credit", "1", &export, "b"), "more than was granted")
	requireCode(t, checkViolation, insert("burn", "customer_credit", "breakage", "1", &export, "c"), "accounts of another kind")
	requireCode(t, checkViolation, insert("burn", "customer_credit", "revenue", "1", nil, "d"), "a burn without an export")
	requireCode(t, checkViolation, insert("burn", "customer_credit", "revenue", "0", &export, "e"), "nothing")
	require.NoError(t, insert("burn", "customer_credit", "revenue", "10", &export, "f"))
	requireCode(t, "23505", insert("restore", "revenue", "customer_credit", "1", &export, "f"), "a key again")

	_, err := f.owner.Exec(t.Context(), `BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO credit_entries SELECT * FROM credit_entries; COMMIT`)
	require.Error(t, err)
	_, err = connect(t, f.db.APIURL).Exec(t.Context(), `SELECT tollgate_lock_credit_grants('{}')`)
	requireCode(t, insufficientPrivilege, err, "only the platform locks")
	f.requireBalanced(t)
}

func TestFreezeCredits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o, p := f.organization("Acme", "pro").ID, f.organization("Bolt", "pro").ID
	cut := today.Start()
	soon := f.grant(creditOf(o, "10", func(g *billing.CreditGrant) { g.ExpiresAt = cut.Add(time.Second) }))
	never := f.grant(creditOf(o, "20"))
	first := f.grant(creditOf(o, "5", func(g *billing.CreditGrant) { g.Priority = 1 }))
	other := f.grant(creditOf(p, "30"))
	f.grant(creditOf(o, "1", func(g *billing.CreditGrant) { g.EffectiveAt = cut.Add(time.Second) }))
	f.grant(creditOf(o, "1", func(g *billing.CreditGrant) { g.ExpiresAt = cut }))
	spent := f.grant(creditOf(p, "3"))
	before := f.creditExport("before")
	_, err := f.BurnCredits(t.Context(), before, []billing.CreditUse{{Grant: spent.ID, Amount: dollars("3")}, {Grant: never.ID, Amount: dollars("8")}})
	require.NoError(t, err)

	export := f.creditExport("run")
	frozen, err := f.FreezeCredits(t.Context(), export, cut)
	require.NoError(t, err)
	require.EqualValues(t, 4, frozen)
	// What comes after a freeze doesn't change it.
	_, err = f.VoidCredit(t.Context(), other.ID, "")
	require.NoError(t, err)

	never.Remaining = dollars("12")
	found, err := f.ExportCredits(t.Context(), export, []uuid.UUID{o, p, uuid.Max})
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(map[uuid.UUID][]billing.CreditGrant{o: {first, soon, never}, p: {other}}, found))
	found, err = f.ExportCredits(t.Context(), export, []uuid.UUID{p})
	require.NoError(t, err)
	require.Len(t, found, 1)
	uses, left := billing.BurnDown(found[p], dollars("7"), "USD", cut)
	require.True(t, left.IsZero())
	_, err = f.BurnCredits(t.Context(), export, uses)
	require.ErrorIs(t, err, billing.ErrCreditChanged, "it was voided since")
}
