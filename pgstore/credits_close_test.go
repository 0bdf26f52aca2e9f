package pgstore_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
)

// expiring changes a grant's expiry, and early makes it effective from long before.
func expiring(at time.Time) func(*billing.CreditGrant) {
	return func(g *billing.CreditGrant) { g.ExpiresAt = at }
}

func early(g *billing.CreditGrant) { g.EffectiveAt = period.Start().AddDate(-1, 0, 0) }

// sums returns the subtotal, the credits and what is due of a statement.
func (f *fixture) sums(id, organization uuid.UUID) []string {
	f.t.Helper()
	s := f.statement(id, organization)
	return []string{s.Subtotal.String(), s.Credits.String(), s.Due.String()}
}

// Credit is frozen, shown on drafts, and burned once, when the statements are issued; what
// is left pays the next period.
func TestCloseBurnsCredits(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	o, other := f.customer("Acme"), f.customer("Bolt")
	first := f.grant(creditOf(o, "3", early, expiring(period.End())))
	second := f.grant(creditOf(o, "10"))
	future := f.grant(creditOf(o, "100", func(g *billing.CreditGrant) { g.EffectiveAt = period.End() }))
	w := f.instance()
	w.flush(row(o, evaluations, today, 5), row(other, evaluations, today, 5))

	e := f.frozen(period, "close")
	late := f.grant(creditOf(other, "7"))
	f.draft(e)
	require.Equal(t, []string{"5.00", "5.00", "0.00"}, f.sums(e.ID, o))
	require.Equal(t, []string{"5.00", "0.00", "5.00"}, f.sums(e.ID, other), "granted after the freeze")
	uses := []billing.CreditUse{{Grant: first.ID, Amount: dollars("3")}, {Grant: second.ID, Amount: dollars("2")}}
	for i, use := range f.statement(e.ID, o).CreditUses() {
		require.Equal(t, uses[i].Grant, use.Grant)
		require.True(t, uses[i].Amount.Equal(use.Amount), use.Amount)
	}
	require.Equal(t, "3", f.remaining(first), "a draft burns nothing")
	f.draft(e)
	require.EqualValues(t, 2, f.count(`SELECT count(*) FROM export_credit_uses WHERE export_id = $1`, e.ID), "rated again, planned once")

	f.finish(e)
	require.NoError(t, f.IssueExport(t.Context(), e.ID))
	require.Equal(t, []string{"0", "8", "100", "7"}, []string{f.remaining(first), f.remaining(second), f.remaining(future), f.remaining(late)})
	require.EqualValues(t, 2, f.count(`SELECT count(*) FROM credit_entries WHERE kind = 'burn' AND export_id = $1`, e.ID))
	entries, err := f.CreditEntries(t.Context(), first.Organization, uuid.Nil, 100)
	require.NoError(t, err)
	for _, entry := range entries {
		require.Equal(t, entry.Kind == billing.CreditBurned, entry.Period == period && entry.Revision == 1 && entry.Export == e.ID, "%+v", entry)
	}
	totals, err := f.MoneyTotals(t.Context(), e.ID)
	require.NoError(t, err)
	require.Equal(t, "5.00", totals[0].Credits.String())

	w.flush(row(o, evaluations, secondPeriod.FirstDay(), 20))
	next := f.closePeriod(secondPeriod)
	require.Equal(t, []string{"20.00", "20.00", "0.00"}, f.sums(next.ID, o))
	require.Equal(t, []string{"0", "88"}, []string{f.remaining(second), f.remaining(future)})
	f.requireBalanced(t)
}

// Credit that is voided, or that another export burned, while an export waits for approval
// keeps it from being issued, and nothing of it is done. A new run takes what is there.
func TestCreditsThatChangedMeanwhile(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	o := f.customer("Acme")
	g, kept := f.grant(creditOf(o, "4")), f.grant(creditOf(o, "4"))
	w := f.instance()
	w.flush(row(o, evaluations, today, 5), row(o, evaluations, secondPeriod.FirstDay(), 7))
	one := f.frozen(period, "one")
	f.draft(one)
	_, err := f.VoidCredit(t.Context(), g.ID, "by mistake")
	require.NoError(t, err)
	require.ErrorIs(t, f.IssueExport(t.Context(), one.ID), billing.ErrCreditChanged)
	require.Zero(t, f.count(`SELECT count(*) FROM statements WHERE issued`))
	require.Zero(t, f.count(`SELECT count(*) FROM exports WHERE issued_at IS NOT NULL`))
	require.Zero(t, f.count(`SELECT count(*) FROM credit_entries WHERE kind = 'burn'`))
	require.NoError(t, f.FailExport(t.Context(), one.ID, billing.StageFailed, "credit changed"))

	again, meanwhile := f.frozen(period, "again"), f.frozen(secondPeriod, "meanwhile")
	f.draft(again)
	f.draft(meanwhile)
	require.Equal(t, []string{"5.00", "4.00", "1.00"}, f.sums(again.ID, o))
	f.finish(again)
	require.Equal(t, "0", f.remaining(kept))
	require.ErrorIs(t, f.IssueExport(t.Context(), meanwhile.ID), billing.ErrCreditChanged)
	f.requireBalanced(t)
}

// A revision counts what the one before it burned, and gives that back as it burns its own.
func TestReopenedPeriodGivesCreditsBack(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	o := f.customer("Acme")
	soon, g := f.grant(creditOf(o, "4", expiring(period.End().Add(time.Hour)))), f.grant(creditOf(o, "10"))
	w := f.instance()
	w.flush(row(o, evaluations, today, 3))
	first := f.closePeriod(period)
	require.Equal(t, []string{"1", "10"}, []string{f.remaining(soon), f.remaining(g)})
	_, err := f.ExpireCredits(t.Context(), period.End().AddDate(0, 1, 0), 10)
	require.NoError(t, err)
	require.Equal(t, "0", f.remaining(soon), "the period that it could pay is closed")

	w.flush(row(o, evaluations, today, 2))
	again := f.reopen(period, "again")
	f.draft(again)
	require.Equal(t, []string{"5.00", "5.00", "0.00"}, f.sums(again.ID, o))
	require.Equal(t, []string{"0", "10"}, []string{f.remaining(soon), f.remaining(g)}, "nothing comes back before it is issued")
	f.finish(again)
	f.finish(again)
	require.Equal(t, []string{"0", "8"}, []string{f.remaining(soon), f.remaining(g)})
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM credit_entries WHERE kind = 'restore' AND export_id = $1`, first.ID))
	f.requireBalanced(t)
}

// What an open period may still use doesn't expire before it is closed, however late that is.
func TestCreditExpiresOnceItsPeriodIsClosed(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	o := f.customer("Acme")
	within := f.grant(creditOf(o, "1", expiring(today.Start())))
	atEnd, after := f.grant(creditOf(o, "2", expiring(period.End()))), f.grant(creditOf(o, "3", expiring(period.End().Add(time.Hour))))
	nothing := f.grant(creditOf(o, "4", func(g *billing.CreditGrant) { g.EffectiveAt = period.End() }, expiring(period.End().Add(time.Hour))))
	now := period.End().AddDate(0, 0, 2)
	expire := func(want int) {
		t.Helper()
		n, err := f.ExpireCredits(t.Context(), now, 10)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	expire(2)
	require.Equal(t, []string{"0", "0"}, []string{f.remaining(within), f.remaining(nothing)}, "they see no period's end")
	f.instance().flush(row(o, evaluations, today, 4))
	e := f.frozen(period, "close")
	f.draft(e)
	expire(0)
	f.finish(e)
	require.Equal(t, []string{"0", "1"}, []string{f.remaining(atEnd), f.remaining(after)})
	expire(1)
	require.Equal(t, "0", f.remaining(after))
	f.requireBalanced(t)
}

// A provisional export shows what credit would pay, and is never issued.
func TestProvisionalExportBurnsNothing(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	o := f.customer("Acme")
	g := f.grant(creditOf(o, "4"))
	f.instance().flush(row(o, evaluations, today, 5))
	e := finalExport(period, "provisional")
	e.Cut, e.Provisional = today.End(), true
	begun, _, err := f.BeginExport(t.Context(), e)
	require.NoError(t, err)
	f.freeze(begun.ID)
	f.draft(begun)
	require.Equal(t, []string{"5.00", "4.00", "1.00"}, f.sums(begun.ID, o))
	require.ErrorIs(t, f.IssueExport(t.Context(), begun.ID), billing.ErrProvisional)
	require.Equal(t, "4", f.remaining(g))
}
