package migrations_test

import (
	"context"
	"fmt"
	"io/fs"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/migrations"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// schema lists what the database has, apart from goose's own table.
func schema(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), `
		SELECT what FROM (
			SELECT 'relation ' || relname AS what FROM pg_class
			WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'goose_%'
			UNION ALL
			SELECT 'function ' || oid::regprocedure FROM pg_proc WHERE pronamespace = 'public'::regnamespace
			UNION ALL
			SELECT 'policy ' || policyname || ' on ' || tablename || qual FROM pg_policies
			UNION ALL
			SELECT 'grant ' || privilege_type || ' on ' || table_name || coalesce('.' || column_name, '')
			FROM information_schema.column_privileges WHERE grantee = 'tollgate_api' AND table_name NOT LIKE 'goose_%'
			UNION ALL
			SELECT 'trigger ' || tgname || ' on ' || tgrelid::regclass FROM pg_trigger WHERE NOT tgisinternal
		) AS everything ORDER BY what`)
	require.NoError(t, err)
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return out
}

// fill gives every table a row.
func fill(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	_, err := conn.Exec(t.Context(), `
		INSERT INTO meters VALUES ('evaluations', 1, 'Evaluations', 'sum', 'evaluation');
		INSERT INTO plans (key, version, name, requests_per_second, burst) VALUES ('pro', 1, 'Pro', 0, 0);
		INSERT INTO plan_limits VALUES ('pro', 1, 'evaluations', 'hard', 'day', 5);
		INSERT INTO catalog_settings (own, default_plan) VALUES (true, 'pro');
		INSERT INTO organizations (id, name) VALUES ('00000000-0000-7000-8000-0000000000aa', 'Acme');
		INSERT INTO organization_plans SELECT id, created_at, 'free' FROM organizations;
		INSERT INTO organization_plans SELECT id, created_at + interval '1 day', NULL FROM organizations;
		INSERT INTO organization_plan_changes SELECT id, id, now(), 'end', false, NULL, NULL, now(), 'moved away' FROM organizations;
		INSERT INTO api_keys (id, organization_id, role, name, prefix, secret_hash)
		SELECT id, id, 'tenant', 'key', 'tg_', sha256('secret') FROM organizations;
		INSERT INTO instances (id, host, status, started_at, seen_at, watermark) SELECT id, 'host', 'live', now(), now(), now() FROM organizations;
		INSERT INTO usage_batches SELECT id, 1, now(), 1 FROM instances;
		INSERT INTO usage_batch_conflicts (instance_id, seq, digest, reports, applied_reports, set_aside, content)
			SELECT instance_id, seq, sha256('x'), 2, 1, 1, '[]' FROM usage_batches LIMIT 1;
		INSERT INTO usage_missing_batches SELECT id, 1, 1, NULL FROM instances;
		INSERT INTO usage_batch_rows SELECT d, id, 1, id, 'evaluations', 'free', 1, 5, now() FROM instances, (VALUES (current_date), (date '2001-01-01')) AS v (d);
		INSERT INTO usage_daily SELECT id, 'evaluations', d, 5, now() FROM instances, (VALUES (current_date), (date '2001-01-01')) AS v (d);
		INSERT INTO usage_rollups (day, revision, content_revision, batches, row_count, variance_count) VALUES (current_date, 1, 1, 1, 1, 0);
		INSERT INTO usage_rollup_batches SELECT current_date, id, 1 FROM instances;
		INSERT INTO usage_rolled SELECT id, 'evaluations', current_date, 5, false, 5 FROM instances;
		INSERT INTO exports (id, period, workflow_id, run_id, stage, cut, provisional, requested_by, requested_at)
		SELECT id, date_trunc('month', current_date), 'w', 'r', 'waiting', now(), false, 'me', now() FROM instances;
		INSERT INTO export_batches SELECT id, id, 1 FROM exports;
		INSERT INTO export_segments SELECT id, id, now(), now() + interval '1 day', 'pro', 1 FROM exports;
		INSERT INTO export_corrections SELECT id, id, id FROM exports;
		INSERT INTO export_correction_batches SELECT id, id, 1 FROM exports;
		INSERT INTO export_segment_usage SELECT id, id, id, now(), 'evaluations', 5 FROM exports;
		INSERT INTO statements SELECT id, id, 'TG-1', 'TG-0', 'USD', 5, 1, 4, 2, true, '{}', true FROM exports;
		INSERT INTO export_parked SELECT id, id, 'no prices' FROM exports;
		INSERT INTO export_variances SELECT id, id, 'USD', 0, 5, NULL, id FROM exports;
		INSERT INTO export_decisions SELECT id, id, 'requested', NULL, 'me', '', now() FROM exports;
		INSERT INTO export_meters SELECT id, 'evaluations', 1, 'sum', 'evaluation' FROM exports;
		INSERT INTO export_organizations SELECT id, id, 'Acme', 'pro' FROM exports;
		INSERT INTO export_usage SELECT id, id, 'evaluations', 5 FROM exports;
		INSERT INTO usage_batches SELECT id, 2, now(), 0 FROM instances;
		INSERT INTO usage_events
		SELECT id, substr(sha256('i'), 1, 16), substr(sha256('f'), 1, 8), 'evaluations', current_date, 1, now(),
			id, 1, 0, 0, 'pro', 'hard', false, 1, 0, 10, 'day' FROM instances;
		INSERT INTO quota_window_rows SELECT id, 'evaluations', 'day', current_date, current_date + 1, 10, 10, 1, 2, 3, 4 FROM instances;
		INSERT INTO quota_leases SELECT id, 'evaluations', 'day', current_date, id, 1, 1, 2, 2, 2, 0, 0 FROM instances;
		INSERT INTO quota_lost_leases SELECT id, 'evaluations', 'day', current_date, id, 2 FROM instances;
		INSERT INTO events (id, key, kind, organization_id, occurred_at, data) SELECT id, 'k', 'export.issued', id, now(), '{}' FROM organizations;
		INSERT INTO webhook_endpoints (id, organization_id, url, secret) SELECT id, id, 'https://example.com/', 's' FROM organizations;
		INSERT INTO webhook_deliveries (event_id, endpoint_id, organization_id) SELECT id, id, id FROM organizations;
		INSERT INTO webhook_attempts SELECT id, id, 'run/1', id, 1, false, now(), 5, 200, '' FROM organizations;
		INSERT INTO reservations
		SELECT id, id, 'evaluations', current_date, 3, NULL, 'held', now(), now() + interval '1 hour', NULL,
			'pro', 1, 'hard', 'day', current_date, 10, 10, 3, false FROM instances;
		INSERT INTO reservations_stuck SELECT organization_id, id, 'refused', now() FROM reservations;
		INSERT INTO idempotent_writes SELECT id, sha256('k'), sha256('f'), now() FROM instances;
		INSERT INTO proposals (id, kind, content, proposed_by) SELECT id, 'plan', '{}', id FROM api_keys;
		INSERT INTO credit_grants SELECT id, id, 'USD', 5, 50, now(), NULL, '' FROM organizations;
		INSERT INTO credit_entries (id, grant_id, organization_id, kind, debit, credit, amount, currency, key)
		SELECT tollgate_uuidv7(), id, id, 'grant', 'granted', 'customer_credit', 5, 'USD', 'grant/' || id FROM credit_grants;
		INSERT INTO export_credits SELECT e.id, g.id, g.id, 'USD', 5, 50, now(), NULL, '' FROM exports e, credit_grants g;
		INSERT INTO export_credit_uses SELECT e.id, g.id, g.id, 5, 0 FROM exports e, credit_grants g;
		INSERT INTO organization_customers SELECT id, 'stripe', 'cus_1' FROM instances;
		INSERT INTO statement_deliveries SELECT id, id, 'stripe', 'in_1' FROM exports;
		INSERT INTO statement_undelivered SELECT id, id, 'stripe', 'failed', 'no such customer' FROM exports`)
	require.NoError(t, err)
}

// Every migration is undone, with data in every table, one by one and all at once, and done again.
func TestMigrationsUpAndDownWithData(t *testing.T) {
	db := pgtest.NewEmptyDatabase(t)
	conn := connect(t, db.URL)
	latest := migrations.Latest()
	version := func() int64 {
		v, err := migrations.Version(t.Context(), db.URL)
		require.NoError(t, err)
		return v
	}
	require.Zero(t, version())
	empty := schema(t, conn)

	require.NoError(t, migrations.Up(t.Context(), db.URL))
	require.Equal(t, latest, version())
	whole := schema(t, conn)
	require.NotEqual(t, empty, whole)
	for _, table := range []string{"meters", "plans", "plan_limits", "catalog_settings"} {
		var rows int
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM `+table).Scan(&rows))
		require.Zero(t, rows, "migrations seed nothing: a catalog of one's own must not meet another one in %s", table)
	}

	fill(t, conn)
	require.NoError(t, migrations.Up(t.Context(), db.URL), "again: nothing to do")
	var organizations int
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM organizations`).Scan(&organizations))
	require.Equal(t, 1, organizations)

	for v := latest; v > 0; v-- {
		require.NoError(t, migrations.Down(t.Context(), db.URL))
		require.Equal(t, v-1, version())
	}
	require.Equal(t, empty, schema(t, conn), "nothing is left")
	require.NoError(t, migrations.Down(t.Context(), db.URL), "nothing to undo")

	require.NoError(t, migrations.Up(t.Context(), db.URL))
	require.Equal(t, whole, schema(t, conn))
	fill(t, conn)
	require.NoError(t, migrations.DownTo(t.Context(), db.URL, 0))
	require.Equal(t, empty, schema(t, conn))
	require.NoError(t, migrations.Up(t.Context(), db.URL))
	require.Equal(t, whole, schema(t, conn))
}

func TestStatus(t *testing.T) {
	db := pgtest.NewEmptyDatabase(t)
	status, err := migrations.Status(t.Context(), db.URL)
	require.NoError(t, err)
	require.Len(t, status, int(migrations.Latest()))
	for i, m := range status {
		require.EqualValues(t, i+1, m.Version)
		require.True(t, strings.HasPrefix(m.Name, fmt.Sprintf("%05d_", i+1)), m.Name)
		require.Nil(t, m.AppliedAt)
	}
	require.NoError(t, migrations.Up(t.Context(), db.URL))
	require.NoError(t, migrations.Down(t.Context(), db.URL))
	status, err = migrations.Status(t.Context(), db.URL)
	require.NoError(t, err)
	for i, m := range status {
		require.Equal(t, i < len(status)-1, m.AppliedAt != nil, m.Name)
	}
}

// Processes that start together migrate once; databases of one cluster share the role.
func TestMigrationsAtTheSameTime(t *testing.T) {
	var group errgroup.Group
	databases := []*pgtest.Database{pgtest.NewEmptyDatabase(t), pgtest.NewEmptyDatabase(t)}
	for _, db := range databases {
		for range 4 {
			group.Go(func() error {
				if err := migrations.Up(t.Context(), db.URL); err != nil {
					return err
				}
				// The password of the role belongs to the cluster: the one of the other tests.
				parsed, err := url.Parse(db.APIURL)
				if err != nil {
					return err
				}
				password, _ := parsed.User.Password()
				return migrations.EnableLogin(t.Context(), db.URL, password)
			})
		}
	}
	require.NoError(t, group.Wait())
	for _, db := range databases {
		version, err := migrations.Version(t.Context(), db.URL)
		require.NoError(t, err)
		require.Equal(t, migrations.Latest(), version)
		var applied int
		conn := connect(t, db.URL)
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM goose_db_version WHERE version_id > 0`).Scan(&applied))
		require.EqualValues(t, migrations.Latest(), applied)
		require.NoError(t, connect(t, db.APIURL).Ping(t.Context()))
	}
}

// A role that row-level security doesn't bind would make every policy idle.
func TestMigrationsRefuseARoleThatBypasses(t *testing.T) {
	db := pgtest.NewEmptyDatabase(t)
	migration, err := fs.ReadFile(migrations.FS, "00001_accounts.sql")
	require.NoError(t, err)
	// The real role is the cluster's, and other tests use it: the check runs on another.
	check := regexp.MustCompile(`(?s)DO \$\$\s*BEGIN\s*IF EXISTS .*?END \$\$;`).FindString(string(migration))
	require.Contains(t, check, "rolbypassrls")
	conn := connect(t, db.URL)
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), `CREATE ROLE tollgate_api_trial BYPASSRLS`)
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), strings.ReplaceAll(check, "tollgate_api", "tollgate_api_trial"))
	require.ErrorContains(t, err, "bypasses row-level security")
}

func TestEnableLoginRefusesAPassword(t *testing.T) {
	for _, password := range []string{"", "short", "päßwörter", "new\nline", strings.Repeat("x", 201)} {
		require.ErrorIs(t, migrations.EnableLogin(t.Context(), "", password), migrations.ErrPassword, "%q", password)
	}
}

// The password is checked by the server that keeps only its verifier.
func TestEnableLogin(t *testing.T) {
	db := pgtest.NewDatabase(t)
	conn := connect(t, db.URL)
	var verifier string
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT rolpassword FROM pg_authid WHERE rolname = 'tollgate_api'`).Scan(&verifier))
	require.Regexp(t, `^SCRAM-SHA-256\$4096:`, verifier)
	require.NoError(t, connect(t, db.APIURL).Ping(t.Context()))
}

func TestConnectionErrorsHideThePassword(t *testing.T) {
	for _, url := range []string{"postgres://user:hunter2@127.0.0.1:1/x", "postgres://user:hunter2@host:port/x"} {
		err := migrations.Up(t.Context(), url)
		require.ErrorContains(t, err, "migrate: ")
		require.NotContains(t, err.Error(), "hunter2")
	}
}

// The last migration says which it is: programs of the version before go on meanwhile.
func TestTheSchemaSaysItsVersion(t *testing.T) {
	db := pgtest.NewEmptyDatabase(t)
	require.NoError(t, migrations.Up(t.Context(), db.URL))
	var version, worksWith int64
	require.NoError(t, connect(t, db.URL).QueryRow(t.Context(), `SELECT version, works_with FROM tollgate_schema()`).Scan(&version, &worksWith))
	require.Equal(t, migrations.Latest(), version)
	require.LessOrEqual(t, worksWith, version)
}
