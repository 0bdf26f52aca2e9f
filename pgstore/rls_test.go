package pgstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/sinks"
)

// SQLSTATE of a statement that the role may not run, or a row that it may not write.
const insufficientPrivilege = "42501"

// organizationColumn is, for each table with rows of an organization, the column
// that says whose a row is.
var organizationColumn = map[string]string{
	"organizations":             "id",
	"organization_plans":        "organization_id",
	"organization_plan_changes": "organization_id",
	"api_keys":                  "organization_id",
	"usage_batch_rows":          "organization_id",
	"usage_daily":               "organization_id",
	"usage_rolled":              "organization_id",
	"export_organizations":      "organization_id",
	"export_usage":              "organization_id",
	"export_segments":           "organization_id",
	"export_segment_usage":      "organization_id",
	"export_corrections":        "organization_id",
	"export_parked":             "organization_id",
	"export_variances":          "organization_id",
	"statements":                "organization_id",
	"usage_events":              "organization_id",
	"usage_quarantine":          "organization_id",
	"usage_keys":                "organization_id",
	"usage_conflicts":           "organization_id",
	"quota_window_rows":         "organization_id",
	"quota_leases":              "organization_id",
	"quota_lost_leases":         "organization_id",
	"plan_changes":              "organization_id",
	"reservations":              "organization_id",
	"reservations_stuck":        "organization_id",
	"credit_grants":             "organization_id",
	"credit_entries":            "organization_id",
	"export_credits":            "organization_id",
	"export_credit_uses":        "organization_id",
	"events":                    "organization_id",
	"webhook_endpoints":         "organization_id",
	"webhook_deliveries":        "organization_id",
	"webhook_attempts":          "organization_id",

	"audit_entries": "organization_id",

	"organization_customers": "organization_id",
	"statement_deliveries":   "organization_id",
	"statement_undelivered":  "organization_id",
}

// platformTables are of no single organization: only the platform sees them.
var platformTables = []string{
	"instances", "usage_batches", "usage_rollups", "usage_rollup_batches", "usage_retention", "exports", "export_batches", "export_meters",
	"export_correction_batches", "export_decisions", "idempotent_writes", "proposals",
	"audit_digests",
}

// twoTenants fills every table, for two organizations.
func twoTenants(t *testing.T) (f *fixture, a, b uuid.UUID) {
	t.Helper()
	f = newFixture(t)
	a, b = f.organization("Acme", "free").ID, f.organization("Bolt", "pro").ID
	w := f.instance()
	for _, o := range []uuid.UUID{a, b} {
		w.flush(row(o, evaluations, today, 5), row(o, storage, today, 7), row(o, simulations, today, -1))
		_, err := f.CreateKey(t.Context(), accounts.Key{Role: accounts.RoleTenant, Organization: o, Name: "k"}, accounts.HashSecret(o.String()))
		require.NoError(t, err)
		_, err = f.ChangeContract(t.Context(), o, accounts.Request{Action: accounts.EndContract, At: time.Now().AddDate(1, 0, 0)})
		require.NoError(t, err)
	}
	_, err := f.RollUpDay(t.Context(), today)
	require.NoError(t, err)
	e := f.beginExport(calendar.PeriodOf(today.Start()), "run")
	_, err = f.FreezeExport(t.Context(), e.ID)
	require.NoError(t, err)
	fillQuotas(f, w.id, a, b)
	fillCredits(f, e.ID, a, b)
	fillWebhooks(f, a, b)
	for _, o := range []uuid.UUID{a, b} {
		require.NoError(t, f.PutCustomer(t.Context(), sinks.Customer{Organization: o, Sink: sinks.Stripe, ExternalID: "cus_" + o.String()}))
		require.NoError(t, f.MarkStatementDelivered(t.Context(), e.ID, o, sinks.Stripe, "in_"+o.String()))
		require.NoError(t, f.MarkStatementsUndelivered(t.Context(), e.ID, "elsewhere", []sinks.Undelivered{{Organization: o, State: sinks.NoCustomer}}))
	}
	fillClose(f, e.ID, a, b)
	f.exec(`INSERT INTO audit_digests (day, entries, previous, digest) VALUES ('2026-10-15', 0, '', repeat('0', 64))`)
	return f, a, b
}

// fillClose fills the tables of the close that a freeze leaves empty.
func fillClose(f *fixture, export uuid.UUID, organizations ...uuid.UUID) {
	f.t.Helper()
	for _, o := range organizations {
		f.exec(`INSERT INTO export_corrections VALUES ($1, $1, $2)`, export, o)
		f.exec(`INSERT INTO export_segment_usage VALUES ($1, $1, $2, '2026-10-01', 'evaluations', 5)`, export, o)
		f.exec(`INSERT INTO statements VALUES ($1, $2, NULL, NULL, 'USD', 5, 0, 5, 1, false, '{}')`, export, o)
		f.exec(`INSERT INTO export_parked VALUES ($1, $2, 'no prices')`, export, o)
		f.exec(`INSERT INTO export_variances VALUES ($1, $2, 'USD', 0, 5, NULL, $1)`, export, o)
	}
}

// fillQuotas fills the tables of events, windows, reservations and idempotent writes.
func fillQuotas(f *fixture, instance uuid.UUID, organizations ...uuid.UUID) {
	for _, o := range organizations {
		f.exec(`
			INSERT INTO usage_events VALUES ($1, substr(sha256('i'), 1, 16), substr(sha256('f'), 1, 8), 'evaluations', '2026-10-15', 1, now(),
				$2, 1, 0, 0, 'free', 'hard', false, 1, 0, 1000, 'day')`, o, instance)
		f.exec(`INSERT INTO usage_keys VALUES ($1, substr(sha256('i'), 1, 16), substr(sha256('f'), 1, 8), now())`, o)
		f.exec(`
			INSERT INTO usage_conflicts VALUES ($1, substr(sha256('i'), 1, 16), substr(sha256('f'), 1, 8), 'evaluations', '2026-10-15', 1, now(), $2, 1)`, o, instance)
		f.exec(`INSERT INTO quota_window_rows VALUES ($1, 'evaluations', 'day', '2026-10-15', '2026-10-16', 1000, 1000, 0, 5, 1, 0)`, o)
		f.exec(`INSERT INTO quota_leases VALUES ($1, 'evaluations', 'day', '2026-10-15', $2, 1, 1, 5, 5, 5, 0, 0)`, o, instance)
		f.exec(`INSERT INTO plan_changes (organization_id, plan, effective_from, due_at) VALUES ($1, 'free', '2026-10-15', '2026-10-15')`, o)
		f.exec(`INSERT INTO quota_lost_leases VALUES ($1, 'evaluations', 'day', '2026-10-15', $2, 5)`, o, instance)
		f.exec(`
			INSERT INTO reservations VALUES ($1, $1, 'evaluations', '2026-10-15', 1, NULL, 'held', now(), now() + interval '1 hour', NULL,
				'free', 1, 'hard', 'day', '2026-10-15', 1000, 5, 1, false)`, o)
		f.exec(`INSERT INTO reservations_stuck VALUES ($1, $1, 'refused', now())`, o)
		f.exec(`INSERT INTO idempotent_writes VALUES ($1, sha256('k'), sha256('f'), now())`, o)
		f.exec(`INSERT INTO proposals (id, kind, content, proposed_by) SELECT $1::uuid, 'plan', '{}', k.id FROM api_keys k WHERE k.organization_id = $1`, o)
	}
}

// fillWebhooks fills the tables of events, endpoints, deliveries and attempts.
func fillWebhooks(f *fixture, organizations ...uuid.UUID) {
	for _, o := range organizations {
		f.exec(`INSERT INTO events (id, key, kind, organization_id, occurred_at, data) VALUES ($1::uuid, $1::uuid::text, 'export.issued', $1::uuid, now(), '{}')`, o)
		f.exec(`INSERT INTO webhook_endpoints (id, organization_id, url, secret) VALUES ($1, $1, 'https://example.com/', 'whsec_AA==')`, o)
		f.exec(`INSERT INTO webhook_deliveries (event_id, endpoint_id, organization_id) VALUES ($1, $1, $1)`, o)
		f.exec(`INSERT INTO webhook_attempts VALUES ($1, $1, 'run/1', $1, 1, false, now(), 5, 200, '')`, o)
	}
}

func TestEveryTableOfOrganizationsIsUnderRowSecurity(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	rows, err := f.owner.Query(t.Context(), `
		SELECT c.relname FROM pg_class c
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relrowsecurity
		ORDER BY c.relname`)
	require.NoError(t, err)
	open, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, []string{"catalog_settings", "goose_db_version", "meters", "plan_limits", "plans"}, open, "tables that every scope may read")

	rows, err = f.owner.Query(t.Context(), `
		SELECT DISTINCT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
			AND (a.attname = 'organization_id' OR c.relname = 'organizations')`)
	require.NoError(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Len(t, tables, len(organizationColumn))
	for _, table := range tables {
		require.Contains(t, organizationColumn, table)
		require.EqualValues(t, 1, f.count(`SELECT count(*) FROM pg_policies WHERE tablename = $1 AND permissive = 'PERMISSIVE' AND roles = '{tollgate_api}'`, table), table)
	}
}

func TestRowSecurityWithoutAScope(t *testing.T) {
	t.Parallel()
	f, _, _ := twoTenants(t)
	conn := connect(t, f.db.APIURL)
	for table := range organizationColumn {
		require.Zero(t, countAs(t, conn, table, "true"), "%s: a session that has set nothing sees nothing", table)
	}
	for _, table := range platformTables {
		require.Zero(t, countAs(t, conn, table, "true"), table)
	}
	// A setting that a transaction made leaves an empty text behind.
	_, err := conn.Exec(t.Context(), `BEGIN; SELECT set_config('tollgate.organization_id', gen_random_uuid()::text, true); COMMIT`)
	require.NoError(t, err)
	require.Zero(t, countAs(t, conn, "usage_daily", "true"))
}

func TestRowSecurityOfATenant(t *testing.T) {
	t.Parallel()
	f, a, b := twoTenants(t)
	conn := connect(t, f.db.APIURL)
	for table, column := range organizationColumn {
		asTenant(t, conn, a, func() {
			require.NotZero(t, countAs(t, conn, table, "true"), "%s: the tenant's own rows", table)
			require.Zero(t, countAs(t, conn, table, column+" <> $1", a), "%s: a query that forgets its WHERE", table)
			require.Zero(t, countAs(t, conn, table, column+" = $1", b), "%s: another tenant's rows, asked for", table)
		})
	}
	asTenant(t, conn, a, func() {
		require.NotZero(t, countAs(t, conn, "quota_windows", "true"), "a view is under the policies of its tables")
		require.Zero(t, countAs(t, conn, "quota_windows", "organization_id <> $1", a))
	})
	for _, table := range platformTables {
		asTenant(t, conn, a, func() { require.Zero(t, countAs(t, conn, table, "true"), table) })
	}
}

func TestRowSecurityOfThePlatform(t *testing.T) {
	t.Parallel()
	f, a, b := twoTenants(t)
	conn := connect(t, f.db.APIURL)
	_, err := conn.Exec(t.Context(), `BEGIN; SELECT set_config('tollgate.scope', 'platform', true)`)
	require.NoError(t, err)
	for table, column := range organizationColumn {
		require.NotZero(t, countAs(t, conn, table, column+" = $1", a), table)
		require.NotZero(t, countAs(t, conn, table, column+" = $1", b), table)
	}
	for _, table := range platformTables {
		require.NotZero(t, countAs(t, conn, table, "true"), table)
	}
}

func TestTenantCannotWriteForAnother(t *testing.T) {
	t.Parallel()
	f, a, b := twoTenants(t)
	conn := connect(t, f.db.APIURL)
	for _, statement := range []string{
		`INSERT INTO usage_daily VALUES ($1, 'simulations', '2026-10-15', 1, now())`,
		`INSERT INTO usage_batch_rows VALUES ('2026-10-15', gen_random_uuid(), 1, $1, 'simulations', 'free', 1, 1, now())`,
		`INSERT INTO api_keys (id, organization_id, role, name, prefix, secret_hash) VALUES (gen_random_uuid(), $1, 'tenant', 'k', 'p', sha256('x'))`,
		`INSERT INTO organization_plans VALUES ($1, now(), 'enterprise')`,
		`INSERT INTO credit_grants VALUES (gen_random_uuid(), $1, 'USD', 5, 50, now(), NULL, '')`,
		`INSERT INTO events (id, key, kind, organization_id, occurred_at, data) VALUES (gen_random_uuid(), 'k', 'export.issued', $1, now(), '{}')`,
		`INSERT INTO webhook_endpoints (id, organization_id, url, secret) VALUES (gen_random_uuid(), $1, 'https://example.com/', 's')`,
		`INSERT INTO statements VALUES (gen_random_uuid(), $1, NULL, NULL, 'USD', 0, 0, 0, 0, false, '{}')`,
	} {
		asTenant(t, conn, a, func() {
			_, err := conn.Exec(t.Context(), statement, b)
			requireCode(t, insufficientPrivilege, err, statement)
		})
	}
	for _, statement := range []string{
		`UPDATE usage_daily SET value = 0 WHERE organization_id = $1`,
		`UPDATE organizations SET name = 'Other' WHERE id = $1`,
		`UPDATE organization_plans SET effective_from = now() WHERE organization_id = $1`,
		`DELETE FROM organization_plans WHERE organization_id = $1`,
		`UPDATE api_keys SET revoked_at = now() WHERE organization_id = $1`,
		`DELETE FROM usage_rolled WHERE organization_id = $1`,
		`UPDATE statements SET due = 0, subtotal = 0 WHERE organization_id = $1`,
	} {
		asTenant(t, conn, a, func() {
			tag, err := conn.Exec(t.Context(), statement, b)
			require.NoError(t, err, statement)
			require.Zero(t, tag.RowsAffected(), statement)
		})
	}
	require.EqualValues(t, 5, f.value(b, evaluations, today))
}

// What was in force is priced: nobody takes it back. What is yet to come may be.
func TestPlansThatWereInForceStay(t *testing.T) {
	t.Parallel()
	f, a, _ := twoTenants(t)
	f.changePlan(a, time.Now().Add(time.Hour), "pro")
	conn := connect(t, f.db.APIURL)
	asTenant(t, conn, a, func() {
		tag, err := conn.Exec(t.Context(), `DELETE FROM organization_plans WHERE organization_id = $1`, a)
		require.NoError(t, err)
		require.EqualValues(t, 2, tag.RowsAffected(), "the change and the end that are to come")
		_, err = conn.Exec(t.Context(), `UPDATE organization_plans SET plan = 'enterprise' WHERE organization_id = $1`, a)
		requireCode(t, insufficientPrivilege, err, "a plan that was in force")
	})
}

// The role owns nothing, runs no DDL, and can't free itself of row-level security.
func TestAPIRoleCannotEscape(t *testing.T) {
	t.Parallel()
	f, _, _ := twoTenants(t)
	require.Zero(t, f.count(`SELECT count(*) FROM pg_class WHERE relowner = 'tollgate_api'::regrole`))
	require.Zero(t, f.count(`SELECT count(*) FROM pg_proc WHERE proowner = 'tollgate_api'::regrole`))
	require.Zero(t, f.count(`SELECT count(*) FROM pg_roles WHERE rolname = 'tollgate_api' AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication)`))
	require.Zero(t, f.count(`SELECT count(*) FROM pg_auth_members WHERE member = 'tollgate_api'::regrole`))

	conn := connect(t, f.db.APIURL)
	for _, statement := range []string{
		`ALTER TABLE usage_daily DISABLE ROW LEVEL SECURITY`,
		`DROP POLICY tollgate_scope ON usage_daily`,
		`CREATE POLICY mine ON usage_daily USING (true)`,
		`CREATE TABLE mine (id int)`,
		`CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'`,
		`CREATE SCHEMA mine`,
		`DROP TABLE usage_daily`,
		`TRUNCATE usage_daily`,
		`ALTER TABLE usage_daily OWNER TO tollgate_api`,
		`ALTER ROLE tollgate_api BYPASSRLS`,
		`SET ROLE postgres`,
		`SELECT * FROM usage_daily_default`,
		`DELETE FROM usage_daily`,
		`DELETE FROM usage_batch_rows`,
		`UPDATE credit_grants SET amount = 9`,
		`DELETE FROM credit_grants`,
		`UPDATE credit_entries SET amount = 9`,
		`DELETE FROM credit_entries`,
		`UPDATE usage_batch_rows SET value = 0`,
		`UPDATE plans SET name = 'x'`,
		`UPDATE plan_limits SET max = 1`,
		`DELETE FROM exports`,
		`UPDATE webhook_attempts SET status = 200`,
		`UPDATE events SET data = '{}'`,
		`UPDATE export_decisions SET note = 'x'`,
		`DELETE FROM export_decisions`,
		`TRUNCATE export_decisions`,
		`UPDATE audit_entries SET actor = 'x'`,
		`DELETE FROM audit_entries`,
		`UPDATE goose_db_version SET version_id = 99`,
		`CREATE TRIGGER mine BEFORE INSERT ON usage_daily EXECUTE FUNCTION suppress_redundant_updates_trigger()`,
	} {
		_, err := conn.Exec(t.Context(), statement)
		requireCode(t, insufficientPrivilege, err, statement)
	}
	// It may turn the security of its session off, which makes queries fail, not see more.
	_, err := conn.Exec(t.Context(), `SET row_security = off`)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `SELECT * FROM usage_daily`)
	requireCode(t, insufficientPrivilege, err, "row_security = off")
}

// A function must not take tables from the caller's schemas; one with a parsed body can't.
func TestDefinerFunctionsHaveASearchPath(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.NotZero(t, f.count(`SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef`))
	require.Zero(t, f.count(`
		SELECT count(*) FROM pg_proc
		WHERE pronamespace = 'public'::regnamespace
			AND prosqlbody IS NULL AND (proconfig IS NULL OR NOT EXISTS (SELECT FROM unnest(proconfig) c WHERE c LIKE 'search_path=%, pg_temp'))`))
	require.Zero(t, f.count(`
		SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef
			AND (proacl IS NULL OR EXISTS (SELECT FROM aclexplode(proacl) a WHERE a.grantee = 0))`), "open to everybody")
}

// asTenant runs fn in a transaction of the organization, and rolls it back.
func asTenant(t *testing.T, conn *pgx.Conn, organization uuid.UUID, fn func()) {
	t.Helper()
	_, err := conn.Exec(t.Context(), `BEGIN; SELECT set_config('tollgate.organization_id', '`+organization.String()+`', true)`)
	require.NoError(t, err)
	defer func() {
		_, err := conn.Exec(context.WithoutCancel(t.Context()), `ROLLBACK`)
		require.NoError(t, err)
	}()
	fn()
}

func countAs(t *testing.T, conn *pgx.Conn, table, where string, args ...any) (n int64) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM `+table+` WHERE `+where, args...).Scan(&n), table)
	return n
}

func requireCode(t *testing.T, code string, err error, about string) {
	t.Helper()
	var failure *pgconn.PgError
	require.ErrorAs(t, err, &failure, about)
	require.Equal(t, code, failure.Code, about)
}
