package web_test

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/sinks"
)

// organizations is how many a page must not mind: enough in a test of all for what reads each of them to show.
var organizations = flag.Int("organizations", 20_000, "how many organizations are in the store of the pages")

const (
	// soon is what a page may take on the server. A machine that does other tests at the same time, under the race detector,
	// is given unhurried times as long; what a page reads of the database says the same on each.
	soon      = 100 * time.Millisecond
	unhurried = 8
	// fewest is how many of the organizations go for each row of tables and indexes that a page may read. A month's page reads all
	// that differ, to show the largest: every eighth organization does.
	fewest = 3
	// visits is how often a page is visited to find its time.
	visits = 3
)

// TestPagesOfManyOrganizations visits every page with many organizations in the store: each answers soon, reads few rows, and
// is no heavier than with three.
func TestPagesOfManyOrganizations(t *testing.T) {
	s := newSite(t)
	m := &crowd{site: s, owner: s.connectOwner(), period: calendar.PeriodOf(now()).Previous()}
	began := time.Now()
	m.seed()
	t.Logf("%d organizations were made in %s", *organizations, time.Since(began).Round(time.Millisecond))
	require.Equal(t, http.StatusOK, s.use("7"))
	s.flush()
	for _, page := range m.pages() {
		t.Run(page.visitor+page.path, func(t *testing.T) { m.hold(t, page) })
	}
}

// crowd is a store of many organizations.
type crowd struct {
	*site
	owner  *pgx.Conn
	period calendar.Period
	// one is an organization of them, statement the number of its statement, endpoint a webhook's.
	one       uuid.UUID
	statement string
	endpoint  string
}

// connectOwner connects as the owner of the database.
func (s *site) connectOwner() *pgx.Conn {
	s.t.Helper()
	owner, err := pgx.Connect(s.t.Context(), s.database.URL)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = owner.Close(context.Background()) })
	return owner
}

// page is a page as somebody visits it.
type page struct {
	path    string
	visitor string
	browser *browser
}

// pages are all that are served, with those of the searches and filters.
func (m *crowd) pages() []page {
	m.t.Helper()
	visitors := map[string]*browser{}
	for _, name := range []string{"tenant", "finance", "admin"} {
		visitors[name] = m.site.browser().signIn(name)
	}
	var out []page
	for _, pattern := range m.site.pages.Routes() {
		path, get := strings.CutPrefix(pattern, "GET ")
		// What is streamed renders a part of a page that is here; files are no pages, and the first ones lead elsewhere.
		skipped := []string{"/{$}", "/demo", "/sign-in", "/sign-in/openid", "/sign-in/openid/callback", "/assets/{file...}", "/api/v1/organizations/{id}/upgrade"}
		if get && !slices.Contains(skipped, path) && !strings.HasSuffix(path, "/live") && !strings.Contains(path, "/files") {
			out = append(out, m.visits(m.filled(path), visitors)...)
		}
	}
	for _, path := range []string{
		"/organizations?search=Organization+99", "/organizations?search=" + m.one.String()[:8], "/organizations?search=nobody",
		"/organizations?after=" + m.one.String(), "/audit?kind=key", "/audit?organization=" + m.one.String(), "/usage/evaluations?by=month",
		"/plan?with=pro", "/months/" + m.period.Previous().String(), "/months/" + m.period.Previous().String() + "/deliveries", "/organizations/" + m.one.String(), "/quarantine?state=dropped",
	} {
		out = append(out, m.visits(path, visitors)...)
	}
	return out
}

// filled is the path of a pattern.
func (m *crowd) filled(pattern string) string {
	m.t.Helper()
	values := map[string]string{
		"{meter}": "evaluations", "{number}": m.statement, "{period}": m.period.String(), "{organization}": m.one.String(), "{key}": "pro", "{id}": m.free.String(),
	}
	if strings.HasPrefix(pattern, "/webhooks/") {
		values["{id}"] = m.endpoint
	}
	return regexp.MustCompile(`{\w+}`).ReplaceAllStringFunc(pattern, func(name string) string {
		require.Contains(m.t, values, name, "say what of the store %s is visited with", pattern)
		return values[name]
	})
}

// visits are those of a page, by everybody who may.
func (m *crowd) visits(path string, visitors map[string]*browser) []page {
	m.t.Helper()
	var out []page
	for _, name := range []string{"tenant", "finance", "admin"} {
		if d := visitors[name].get(path); d.status == http.StatusOK {
			out = append(out, page{path, name, visitors[name]})
		}
	}
	require.NotEmpty(m.t, out, "nobody may visit %s", path)
	return out
}

// hold holds a page to its time, to what it reads, and to its weight.
func (m *crowd) hold(t *testing.T, p page) {
	t.Helper()
	read := m.read()
	var d document
	require.Eventually(t, func() bool {
		d = p.browser.get(p.path)
		return d.status == http.StatusOK
	}, 20*time.Second, time.Millisecond)
	read = m.read() - read
	require.Eventually(t, func() bool { return p.browser.get(p.path).status == http.StatusOK }, 20*time.Second, time.Millisecond)
	took := make([]time.Duration, visits)
	for i := range took {
		began := time.Now()
		d = p.browser.get(p.path)
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	t.Logf("%6.1f ms, %6d rows read, %4d KiB", float64(took[visits/2].Microseconds())/1000, read, d.size>>10)
	p.browser.requirePage(p.path, d)
	require.Less(t, read, int64(*organizations/fewest), "rows that were read for %s", p.path)
	require.Less(t, took[0], unhurried*soon, p.path)
}

// read is how many rows were read of the store's tables so far. Sessions say so for sure as they end.
func (m *crowd) read() int64 {
	m.t.Helper()
	var rows int64
	require.Eventually(m.t, func() bool {
		var open int
		err := m.owner.QueryRow(m.t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`).Scan(&open)
		return err == nil && open == 0
	}, 20*time.Second, time.Millisecond)
	require.NoError(m.t, m.owner.QueryRow(m.t.Context(), `
		SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes) FROM pg_stat_user_tables`).Scan(&rows))
	return rows
}

// seed makes the organizations, with keys, plans, usage, two months of statements, instances, events and an audit log.
func (m *crowd) seed() {
	m.t.Helper()
	// No entry of the audit log and no look-up for each row.
	m.exec(`SET session_replication_role = replica`)
	m.exec(`SET synchronous_commit = off`)
	m.exec(`SET work_mem = '64MB'`)
	m.exec(`INSERT INTO organizations (id, name, created_at)
		SELECT ('0190' || lpad(to_hex(n), 4, '0') || '-' || lpad(to_hex(n % 65536), 4, '0') || '-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'Organization ' || n, $2::timestamptz
		FROM generate_series(1, $1::int) AS n`, *organizations, m.period.Previous().Start())
	m.exec(`INSERT INTO organization_plans (organization_id, effective_from, plan) SELECT id, created_at, 'pro' FROM organizations WHERE name LIKE 'Organization %'`)
	m.exec(`INSERT INTO api_keys (id, organization_id, role, name, prefix, secret_hash, owner)
		SELECT tollgate_uuidv7(), id, 'tenant', 'production', 'tg_tenant_' || left(id::text, 8), sha256(id::text::bytea), '' FROM organizations WHERE name LIKE 'Organization %'`)
	m.exec(`INSERT INTO instances (id, host, status, started_at, seen_at, last_seq, watermark)
		SELECT tollgate_uuidv7(), 'gone-' || n, CASE n % 3 WHEN 0 THEN 'lost' ELSE 'stopped' END, now() - interval '20 days', now() - interval '10 days', 1, now() FROM generate_series(1, 2000) AS n`)
	m.exec(`INSERT INTO usage_daily (organization_id, meter, day, value, last_at)
		SELECT o.id, c.key, $1::timestamptz::date, 100 + (hashtext(o.id::text) & 1023), $1 FROM organizations o CROSS JOIN meters c`, m.period.Start())
	m.exec(`INSERT INTO events (id, key, kind, organization_id, occurred_at, data, created_at, dispatched_at)
		SELECT tollgate_uuidv7(), 'limit/' || id, 'limit.reached', id, created_at, '{}', created_at, created_at FROM organizations`)
	m.exec(`INSERT INTO audit_entries (kind, action, subject, organization_id, at, after)
		SELECT k.kind, 'created', o.id::text, o.id, o.created_at, to_jsonb(o) FROM organizations o CROSS JOIN (VALUES ('key')) AS k (kind)`)
	closed := m.month(m.period.Previous(), billing.StageClosed)
	reviewing := m.month(m.period, billing.StageReviewing)
	m.exec(`INSERT INTO export_parked (export_id, organization_id, reason)
		SELECT $1, organization_id, 'has no prices in USD' FROM export_organizations WHERE export_id = $1 AND hashtext(organization_id::text) & 1023 = 1`, reviewing)
	m.exec(`SET session_replication_role = origin`)
	differ, err := m.store.ReviewVariances(m.t.Context(), reviewing, billing.VarianceThreshold{Percent: 20, Least: "0.01"})
	require.NoError(m.t, err)
	require.Greater(m.t, differ, int64(*organizations/10), "of every eighth organization's statement")
	m.exec(`ANALYZE`)
	// Whoever looks first after a delivery counts for all who come.
	pending, err := m.store.StatementDeliveryCounts(m.t.Context(), closed, sinks.Stripe, uuid.Nil, uuid.Max)
	require.NoError(m.t, err)
	require.GreaterOrEqual(m.t, pending.Pending, int64(*organizations))
	row := m.owner.QueryRow(m.t.Context(), `SELECT organization_id, (SELECT number FROM statements WHERE organization_id = $1 AND issued)
		FROM export_variances ORDER BY organization_id LIMIT 1 OFFSET $2`, m.free, *organizations/20)
	require.NoError(m.t, row.Scan(&m.one, &m.statement))
	tenant := m.site.browser().signIn("tenant")
	made := tenant.post("/webhooks", tenant.get("/webhooks").form("/webhooks", "url", "https://example.com/hooks"))
	require.Equal(m.t, http.StatusOK, made.status)
	require.NoError(m.t, m.owner.QueryRow(m.t.Context(), `SELECT id FROM webhook_endpoints`).Scan(&m.endpoint))
}

// month makes an export of a period in a stage, with a statement for everybody.
func (m *crowd) month(period calendar.Period, stage billing.Stage) uuid.UUID {
	m.t.Helper()
	id := uuid.Must(uuid.NewV7())
	document := fmt.Sprintf(`{"period":%q,"organization_id":"ORGANIZATION","organization_name":"NAME","currency":"USD","plan":"pro","lines":[{"kind":"base","description":"Pro","exact":"49","rest":"0","amount":"49.00"},
		{"kind":"usage","description":"Evaluations","exact":"0.004","rest":"0.004","amount":"0.00"}],"subtotal":"49.00","credits":"0.00","due":"49.00"}`, period)
	m.exec(`INSERT INTO exports (id, period, workflow_id, run_id, stage, cut, provisional, requested_by, requested_at, frozen_at)
		VALUES ($1, $2::timestamptz::date, 'export/' || $3, 'run', 'reviewing', $4, false, 'month-end', $4, $4)`, id, period.Start(), period.String(), period.End())
	m.exec(`INSERT INTO export_meters (export_id, meter, position, aggregation, unit) SELECT $1, key, row_number() OVER (), aggregation, unit FROM meters`, id)
	m.exec(`INSERT INTO export_organizations (export_id, organization_id, name, plan, currency) SELECT $1, id, name, 'pro', 'USD' FROM organizations`, id)
	m.exec(`INSERT INTO export_usage (export_id, organization_id, meter, value) SELECT $1, o.id, c.key, 100 FROM organizations o CROSS JOIN meters c WHERE c.key = 'evaluations'`, id)
	m.exec(`INSERT INTO export_segments (export_id, organization_id, start_at, end_at, plan, plan_version) SELECT $1, id, $2, $3, 'pro', 1 FROM organizations`, id, period.Start(), period.End())
	m.exec(`INSERT INTO statements (export_id, organization_id, number, currency, subtotal, credits, due, line_count, corrects, document, issued)
		SELECT $1, id, 'TG-' || $2 || '-' || lpad((row_number() OVER (ORDER BY id))::text, 6, '0'), 'USD', s.sum, 0, s.sum, 2, false, replace(replace($3::text, 'ORGANIZATION', id::text), 'NAME', name), $4 = 'closed'
		FROM organizations, LATERAL (SELECT CASE WHEN $4 <> 'closed' AND hashtext(id::text) & 7 = 0 THEN 100 + (hashtext(id::text) & 1023) ELSE 49 END AS sum) AS s`,
		id, period.String(), document, string(stage))
	require.NoError(m.t, m.store.PutManifest(m.t.Context(), id, billing.Manifest{Period: period, Cut: period.End(), Revision: 1, Money: []billing.MoneyTotal{{Currency: "USD", Statements: int64(*organizations)}}}))
	if stage == billing.StageClosed {
		m.exec(`UPDATE exports SET stage = 'closed', issued_at = cut, finished_at = cut WHERE id = $1`, id)
	}
	return id
}

func (m *crowd) exec(statement string, arguments ...any) {
	m.t.Helper()
	_, err := m.owner.Exec(m.t.Context(), statement, arguments...)
	require.NoError(m.t, err, statement)
}
