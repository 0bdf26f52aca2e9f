package pgstore_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/sinks"
)

// issued reads an export's statements for a sink, page by page.
func (f *fixture) issued(id uuid.UUID, page int) map[uuid.UUID]sinks.Issued {
	f.t.Helper()
	all, after := map[uuid.UUID]sinks.Issued{}, uuid.Nil
	for {
		next, err := f.IssuedStatements(f.t.Context(), id, sinks.Stripe, after, uuid.Max, page)
		require.NoError(f.t, err)
		require.LessOrEqual(f.t, len(next), page)
		if len(next) == 0 {
			return all
		}
		for _, s := range next {
			require.Equal(f.t, 1, slices.Compare(s.Organization[:], after[:]), "in the order of the ids")
			after = s.Organization
			all[after] = s
		}
	}
}

// due is what is left to deliver of a statement.
func due(t *testing.T, s sinks.Issued) string {
	t.Helper()
	left, _, err := s.ToDeliver()
	require.NoError(t, err)
	return left.Due().String()
}

func (f *fixture) deliveryCounts(id uuid.UUID) sinks.Counts {
	f.t.Helper()
	counts, err := f.StatementDeliveryCounts(f.t.Context(), id, sinks.Stripe, uuid.Nil, uuid.Max)
	require.NoError(f.t, err)
	return counts
}

func (f *fixture) putCustomer(organization uuid.UUID) {
	f.t.Helper()
	require.NoError(f.t, f.PutCustomer(f.t.Context(), sinks.Customer{Organization: organization, Sink: sinks.Stripe, ExternalID: "cus_" + organization.String()}))
}

func (f *fixture) deliver(id, organization uuid.UUID) {
	f.t.Helper()
	require.NoError(f.t, f.MarkStatementDelivered(f.t.Context(), id, organization, sinks.Stripe, "in_"+id.String()))
}

func TestIssuedStatements(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	a, b, c := f.customer("A"), f.customer("B"), f.customer("C")
	f.instance().flush(row(a, evaluations, today, 5), row(b, evaluations, today, 7))
	e := f.frozen(period, "close")
	f.draft(e)
	_, err := f.IssuedStatements(t.Context(), e.ID, sinks.Stripe, uuid.Nil, uuid.Max, 10)
	require.ErrorIs(t, err, billing.ErrNotIssued, "a draft is delivered to nobody")
	_, err = f.StatementDeliveryPages(t.Context(), e.ID, 1, 10)
	require.ErrorIs(t, err, billing.ErrNotIssued)
	_, err = f.IssuedStatements(t.Context(), uuid.Max, sinks.Stripe, uuid.Nil, uuid.Max, 10)
	require.ErrorIs(t, err, billing.ErrExportNotFound)
	require.Zero(t, f.deliveryCounts(e.ID))
	f.finish(e)

	f.putCustomer(a)
	f.deliver(e.ID, a)
	for _, page := range []int{1, 2, 10} {
		found := f.issued(e.ID, page)
		require.Len(t, found, 3)
		require.Equal(t, "in_"+e.ID.String(), found[a].ExternalID)
		require.Equal(t, "cus_"+a.String(), found[a].Customer)
		require.Empty(t, found[b].Customer)
		require.Nil(t, found[b].Replaces)
		require.Equal(t, []string{"TG-2026-10-000002", "USD", "7"}, []string{found[b].Number, string(found[b].Currency), found[b].Due().String()})
		require.Equal(t, []time.Time{period.Start(), period.End()}, []time.Time{found[b].PeriodStart, found[b].PeriodEnd})
		require.Equal(t, 1, found[b].Lines[0].Position)
		require.NotEmpty(t, found[b].Lines[0].Description)
		require.True(t, found[c].Due().IsZero())
	}
	part, err := f.IssuedStatements(t.Context(), e.ID, sinks.Stripe, a, b, 10)
	require.NoError(t, err)
	require.Len(t, part, 1)
	require.Equal(t, b, part[0].Organization)
}

func TestDeliveryPages(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	var all []uuid.UUID
	for range 5 {
		all = append(all, f.customer("A"))
	}
	e := f.closePeriod(period)
	for _, c := range []struct {
		size, most int
		want       []uuid.UUID
	}{
		{2, 10, []uuid.UUID{all[1], all[3], uuid.Max}},
		{5, 10, []uuid.UUID{uuid.Max}},
		{1, 2, []uuid.UUID{all[2], uuid.Max}},
	} {
		pages, err := f.StatementDeliveryPages(t.Context(), e.ID, c.size, c.most)
		require.NoError(t, err)
		require.Equal(t, c.want, pages)
	}
}

// What became of each is listed, counted and replaced by what becomes of it later.
func TestStatementDeliveries(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	a, b, c := f.customer("A"), f.customer("B"), f.customer("C")
	f.instance().flush(row(a, evaluations, today, 5), row(b, evaluations, today, 7))
	e := f.closePeriod(period)
	list := func(state sinks.State, after uuid.UUID, limit int) []sinks.Delivery {
		found, err := f.StatementDeliveries(t.Context(), e.ID, sinks.Stripe, state, after, limit)
		require.NoError(t, err)
		return found
	}
	require.Equal(t, sinks.Counts{Pending: 3}, f.deliveryCounts(e.ID))
	require.Len(t, list(sinks.Pending, uuid.Nil, 10), 3)
	require.True(t, list("", uuid.Nil, 1)[0].At.IsZero())

	undelivered := []sinks.Undelivered{
		{Organization: a, State: sinks.Failed, Reason: "no such customer"}, {Organization: b, State: sinks.NoCustomer}, {Organization: c, State: sinks.NothingDue},
	}
	for range 2 {
		require.NoError(t, f.MarkStatementsUndelivered(t.Context(), e.ID, sinks.Stripe, undelivered))
	}
	require.NoError(t, f.MarkStatementsUndelivered(t.Context(), e.ID, sinks.Stripe, nil))
	require.Equal(t, sinks.Counts{Failed: 1, NoCustomer: 1, NothingDue: 1}, f.deliveryCounts(e.ID))
	failed := list(sinks.Failed, uuid.Nil, 10)
	require.Len(t, failed, 1)
	require.WithinDuration(t, time.Now(), failed[0].At, time.Minute)
	failed[0].At = time.Time{}
	require.Equal(t, sinks.Delivery{
		Organization: a, OrganizationName: "A", Statement: "TG-2026-10-000001", Sink: sinks.Stripe, State: sinks.Failed, Reason: "no such customer", Attempts: 2,
	}, failed[0])

	f.deliver(e.ID, a)
	require.NoError(t, f.MarkStatementDelivered(t.Context(), e.ID, a, sinks.Stripe, "in_again"), "what was recorded stays")
	require.NoError(t, f.MarkStatementDelivered(t.Context(), e.ID, b, "elsewhere", "x"))
	require.NoError(t, f.MarkStatementsUndelivered(t.Context(), e.ID, sinks.Stripe, undelivered[:1]), "what was delivered stays so")
	require.Error(t, f.MarkStatementDelivered(t.Context(), uuid.Max, a, sinks.Stripe, "in_3"), "there is no such export")
	require.Equal(t, sinks.Counts{Delivered: 1, NoCustomer: 1, NothingDue: 1}, f.deliveryCounts(e.ID))
	counts, err := f.StatementDeliveryCounts(t.Context(), e.ID, sinks.Stripe, a, b)
	require.NoError(t, err)
	require.Equal(t, sinks.Counts{NoCustomer: 1}, counts)
	delivered := list(sinks.Delivered, uuid.Nil, 10)
	require.Len(t, delivered, 1)
	require.Equal(t, "in_"+e.ID.String(), delivered[0].ExternalID)
	rest := list("", a, 10)
	require.Len(t, rest, 2)
	require.Equal(t, []uuid.UUID{b, c}, []uuid.UUID{rest[0].Organization, rest[1].Organization})
	require.Len(t, list("", uuid.Nil, 2), 2)
}

// The counts of all are kept until one moves, and never without one that was about to.
func TestDeliveryCountsAreKept(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	all := []uuid.UUID{f.customer("A"), f.customer("B"), f.customer("C"), f.customer("D")}
	e := f.closePeriod(period)
	kept := func() int64 {
		return f.count(`SELECT count(*) FROM exports WHERE id = $1 AND deliveries IS NOT NULL`, e.ID)
	}
	require.Zero(t, kept())
	for range 2 {
		require.Equal(t, sinks.Counts{Pending: 4}, f.deliveryCounts(e.ID))
		require.EqualValues(t, 1, kept())
	}
	f.deliver(e.ID, all[0])
	require.Zero(t, kept())
	require.Equal(t, sinks.Counts{Pending: 3, Delivered: 1}, f.deliveryCounts(e.ID))
	f.deliver(e.ID, all[0])
	require.Equal(t, sinks.Counts{Pending: 3, Delivered: 1}, f.deliveryCounts(e.ID))

	// One that moves meanwhile is not there yet, and is there once it has moved.
	f.deliver(e.ID, all[3])
	tx := f.begin()
	_, err := tx.Exec(t.Context(), `INSERT INTO statement_undelivered (export_id, organization_id, sink, state, reason) VALUES ($1, $2, 'stripe', 'failed', 'no')`, e.ID, all[1])
	require.NoError(t, err)
	require.Equal(t, sinks.Counts{Pending: 2, Delivered: 2}, f.deliveryCounts(e.ID))
	require.Zero(t, kept())
	require.NoError(t, tx.Commit(t.Context()))
	require.Equal(t, sinks.Counts{Pending: 1, Delivered: 2, Failed: 1}, f.deliveryCounts(e.ID))
	require.EqualValues(t, 1, kept())

	// Many at once: what is kept in the end is what is there.
	var group sync.WaitGroup
	for n := range 4 {
		group.Go(func() {
			for range 20 {
				assert.NoError(t, f.MarkStatementsUndelivered(t.Context(), e.ID, sinks.Stripe, []sinks.Undelivered{{Organization: all[n], State: sinks.States()[1+n%2]}}))
				_, err := f.StatementDeliveryCounts(t.Context(), e.ID, sinks.Stripe, uuid.Nil, uuid.Max)
				assert.NoError(t, err)
			}
		})
	}
	group.Wait()
	counted, err := f.StatementDeliveryCounts(t.Context(), e.ID, sinks.Stripe, uuid.UUID{15: 1}, uuid.Max)
	require.NoError(t, err)
	require.Equal(t, counted, f.deliveryCounts(e.ID))
	require.EqualValues(t, 2, counted.Delivered)
	require.Zero(t, counted.Pending)
}

// Of a revision only what differs from what the sink has taken is left to deliver.
func TestARevisionLeavesTheDifference(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	same, more, gone, undelivered := f.customer("Same"), f.customer("More"), f.customer("Gone"), f.customer("Undelivered")
	w := f.instance()
	w.flush(row(same, evaluations, today, 5), row(more, evaluations, today, 7), row(gone, evaluations, today, 9), row(undelivered, evaluations, today, 1))
	first := f.closePeriod(period)
	for _, o := range []uuid.UUID{same, more, gone} {
		f.putCustomer(o)
		f.deliver(first.ID, o)
	}
	w.flush(row(more, evaluations, today, 3))
	second := f.reopen(period, "again")
	f.draft(second, gone)
	f.finish(second)
	_, err := f.IssuedStatements(t.Context(), first.ID, sinks.Stripe, uuid.Nil, uuid.Max, 10)
	require.ErrorIs(t, err, billing.ErrNotIssued, "superseded")
	for _, page := range []int{1, 3, 10} {
		found := f.issued(second.ID, page)
		require.Len(t, found, 4)
		require.Equal(t, []string{"0", "3", "-9", "0"}, []string{due(t, found[same]), due(t, found[more]), due(t, found[gone]), due(t, found[undelivered])})
		require.Equal(t, "TG-2026-10-000003-withdrawn-R2", found[gone].Number)
		require.Equal(t, gone, found[gone].Organization)
		require.Nil(t, found[undelivered].Replaces)
		_, state, err := found[same].ToDeliver()
		require.NoError(t, err)
		require.Equal(t, sinks.Unchanged, state)
	}
	require.NoError(t, f.MarkStatementsUndelivered(t.Context(), second.ID, sinks.Stripe, []sinks.Undelivered{{Organization: same, State: sinks.Unchanged}}))
	f.deliver(second.ID, more)
	f.deliver(second.ID, gone)
	require.Equal(t, sinks.Counts{Delivered: 2, Unchanged: 1, Pending: 1}, f.deliveryCounts(second.ID))
	listed, err := f.StatementDeliveries(t.Context(), second.ID, sinks.Stripe, sinks.Delivered, uuid.Nil, 10)
	require.NoError(t, err)
	require.Len(t, listed, 2, "what is taken back is listed, too")
	require.Empty(t, listed[1].Statement)

	// The one after it: what was taken back is due whole again, and the rest is as it was.
	third := f.reopen(period, "once more")
	f.draft(third)
	f.finish(third)
	found := f.issued(third.ID, 10)
	require.Nil(t, found[gone].Replaces)
	require.Equal(t, []string{"0", "0", "9", "1"}, func() (out []string) {
		f.putCustomer(undelivered)
		found = f.issued(third.ID, 10)
		for _, o := range []uuid.UUID{same, more, gone, undelivered} {
			out = append(out, due(t, found[o]))
		}
		return out
	}())
	require.Equal(t, "TG-2026-10-R2-000002", found[more].Replaces.Number)
	require.Equal(t, "TG-2026-10-000001", found[same].Replaces.Number)
}

// Statistics that know nothing of an export don't make pages slow: each is read by its key.
func TestIssuedStatementsOfMany(t *testing.T) {
	t.Parallel()
	const organizations, size = 6_000, 60
	f := newClosingFixture(t)
	e := f.closePeriod(period)
	f.exec(`INSERT INTO organizations (id, name) SELECT ('0190a000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'O' FROM generate_series(1, $1::int) AS n`, organizations)
	f.exec(`INSERT INTO statements SELECT $1, id, 'TG-' || id, NULL, 'USD', 0, 0, 0, 0, false, '{"period":"2026-10","organization_id":"' || id || '","currency":"USD","lines":[]}', true
		FROM organizations WHERE name = 'O'`, e.ID)
	began, after, seen := time.Now(), uuid.Nil, 0
	for {
		page, err := f.IssuedStatements(t.Context(), e.ID, sinks.Stripe, after, uuid.Max, size)
		require.NoError(t, err)
		if len(page) == 0 {
			break
		}
		undelivered := make([]sinks.Undelivered, len(page))
		for i, s := range page {
			undelivered[i] = sinks.Undelivered{Organization: s.Organization, State: sinks.NothingDue}
		}
		require.NoError(t, f.MarkStatementsUndelivered(t.Context(), e.ID, sinks.Stripe, undelivered))
		f.deliver(e.ID, page[0].Organization)
		seen, after = seen+len(page), page[len(page)-1].Organization
	}
	require.Equal(t, organizations, seen)
	listed, err := f.StatementDeliveries(t.Context(), e.ID, sinks.Stripe, sinks.Failed, uuid.Nil, size)
	require.NoError(t, err)
	require.Empty(t, listed)
	require.Equal(t, sinks.Counts{Delivered: organizations / size, NothingDue: organizations - organizations/size}, f.deliveryCounts(e.ID))
	// A second; pages that read all rows took longer by the number of pages.
	require.Less(t, time.Since(began), 30*time.Second)
}
