package pgstore_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore"
	"github.com/riverline/tollgate/sinks"
)

// readsPage is how many organizations a page has whose reads are counted.
const readsPage = 20

// TestACloseReadsInProportion closes months with late usage, credits and deliveries, of few organizations
// and of four times as many. What pages read of each table grows in proportion at most, though there are no
// statistics yet: where each page reads the rows of all, it is sixteen times as much.
func TestACloseReadsInProportion(t *testing.T) {
	t.Parallel()
	const few, many = 2 * readsPage, 8 * readsPage
	small, large := closeReads(t, few), closeReads(t, many)
	for _, step := range slices.Sorted(maps.Keys(large)) {
		for _, table := range slices.Sorted(maps.Keys(large[step])) {
			rows, before := large[step][table], small[step][table]
			require.LessOrEqual(t, rows, 6*before+2*many, "%s, %s: %d rows with %d organizations, %d with %d", step, table, before, few, rows, many)
		}
	}
	require.Greater(t, large["rate"]["export_usage"], int64(many/2), "reads are counted")
}

// readsRig counts what is read of each table.
type readsRig struct {
	*fixture
	steps map[string]map[string]int64
}

// closeReads closes three months, the last one twice, and returns how many rows the pages of each step read of each table.
func closeReads(t *testing.T, organizations int) map[string]map[string]int64 {
	t.Helper()
	r := &readsRig{newClosingFixture(t), map[string]map[string]int64{}}
	ids := r.tenants(organizations)
	since := period.Start().AddDate(-1, 0, 0)
	r.exec(`UPDATE organizations SET created_at = $1`, since)
	r.exec(`INSERT INTO organization_plans SELECT id, $1, 'metered' FROM organizations`, since)
	r.exec(`
		WITH granted AS (
			INSERT INTO credit_grants (id, organization_id, currency, amount, priority, effective_at, note)
			SELECT gen_random_uuid(), id, 'USD', 100, 50, $1, 'order 7' FROM organizations RETURNING *
		)
		INSERT INTO credit_entries (id, grant_id, organization_id, kind, debit, credit, amount, currency, key)
		SELECT gen_random_uuid(), id, organization_id, 'grant', 'granted', 'customer_credit', amount, currency, 'grant/' || id FROM granted`,
		period.Start())
	rows := make([]meter.Row, len(ids))
	for i, id := range ids {
		rows[i] = row(id, evaluations, today, 3)
	}
	w := r.instance()
	for _, closed := range []calendar.Period{period, secondPeriod, thirdPeriod} {
		var e billing.Export
		r.step("freeze", func() {
			w.flush(rows...)
			e = r.frozen(closed, "close")
		})
		// Pages are rated again where a worker dies.
		r.step("rate", func() { r.ratePages(e.ID) })
		r.step("rate", func() { r.ratePages(e.ID) })
		r.step("issue", func() { r.issue(e) })
	}
	var again billing.Export
	r.step("freeze", func() { again = r.reopen(thirdPeriod, "again") })
	r.step("rate", func() { r.ratePages(again.ID) })
	r.step("try", func() { r.tryPages(again.ID) })
	r.step("issue", func() { r.issue(again) })
	r.step("deliver", func() { require.Len(t, r.issued(again.ID, readsPage), len(ids)) })
	return r.steps
}

// step does something by a store of its own, and adds what that read: a session's counts are there once it has ended.
func (r *readsRig) step(name string, do func()) {
	r.t.Helper()
	r.Close()
	before := r.reads()
	r.Store = r.open(pgstore.Config{URL: r.db.APIURL})
	do()
	r.Close()
	counted := r.steps[name]
	if counted == nil {
		counted = map[string]int64{}
		r.steps[name] = counted
	}
	for table, rows := range r.reads() {
		counted[table] += rows - before[table]
	}
}

// reads returns how many rows were read of each table: all sessions have ended then, and their counts are there.
func (r *readsRig) reads() map[string]int64 {
	r.t.Helper()
	r.owner.Reset()
	require.Eventually(r.t, func() bool {
		return r.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`) == 0
	}, 30*time.Second, 10*time.Millisecond)
	rows, err := r.owner.Query(r.t.Context(), `
		SELECT t.relname, t.seq_tup_read + coalesce(sum(greatest(i.idx_tup_read, i.idx_tup_fetch)), 0)::bigint
		FROM pg_stat_user_tables t LEFT JOIN pg_stat_user_indexes i USING (relid) GROUP BY t.relid, t.relname, t.seq_tup_read`)
	require.NoError(r.t, err)
	out := map[string]int64{}
	var table string
	var read int64
	_, err = pgx.ForEachRow(rows, []any{&table, &read}, func() error {
		out[table] = read
		return nil
	})
	require.NoError(r.t, err)
	return out
}

// ratePages makes the statements of an export, page by page.
func (r *readsRig) ratePages(id uuid.UUID) {
	r.t.Helper()
	catalog, err := r.Catalog(r.t.Context())
	require.NoError(r.t, err)
	r.eachPage(id, readsPage, func(ratables []billing.Ratable) {
		var page billing.RatedPage
		for _, ratable := range ratables {
			page.Organizations = append(page.Organizations, ratable.OrganizationPeriod.Organization)
			s, err := billing.Rate(ratable, catalog)
			require.NoError(r.t, err)
			page.Statements = append(page.Statements, s)
		}
		require.NoError(r.t, r.PutStatements(r.t.Context(), id, page))
	})
}

// tryPages reads what a dry run of other prices reads.
func (r *readsRig) tryPages(id uuid.UUID) {
	r.t.Helper()
	for after := uuid.Nil; ; {
		page, err := r.BilledPeriods(r.t.Context(), id, after, readsPage)
		require.NoError(r.t, err)
		if len(page) == 0 {
			return
		}
		after = page[len(page)-1].OrganizationPeriod.Organization
	}
}

// issue issues what was rated, and delivers it.
func (r *readsRig) issue(e billing.Export) {
	r.t.Helper()
	require.NoError(r.t, r.NumberStatements(r.t.Context(), e.ID))
	require.NoError(r.t, r.PutManifest(r.t.Context(), e.ID, manifest(e)))
	r.finish(e)
	r.exec(`INSERT INTO statement_deliveries (export_id, organization_id, sink, external_id) SELECT $1, organization_id, $2, 'in_' || organization_id FROM statements WHERE export_id = $1`,
		e.ID, sinks.Stripe)
}
