package e2e_test

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
)

// owner connects to the database as its owner.
func (s *system) owner() *pgx.Conn {
	s.t.Helper()
	conn, err := pgx.Connect(context.Background(), s.database.URL)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// seed makes organizations on the Pro plan, each with usage of all meters on one day of
// the period, as an instance that has stopped flushed it, and with a credit of 5.00.
func seed(t require.TestingT, db *pgx.Conn, period calendar.Period, organizations int) {
	day := period.LastDay().Start()
	for _, step := range []struct {
		statement string
		arguments []any
	}{
		{`INSERT INTO organizations (id, name, created_at)
			SELECT ('0190a000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'Organization ' || n, '2020-01-01'
			FROM generate_series(1, $1::int) AS n`, []any{organizations}},
		{`INSERT INTO organization_plans (organization_id, effective_from, plan)
			SELECT id, created_at, 'pro' FROM organizations WHERE created_at = '2020-01-01'`, nil},
		{`INSERT INTO instances (id, host, status, started_at, seen_at, last_seq, watermark)
			VALUES ('0190b000-0000-7000-8000-000000000001', 'seed', 'stopped', $1, $1, 1, $1::timestamptz + interval '1 day')`, []any{day}},
		{`INSERT INTO usage_batches (instance_id, seq, watermark, row_count)
			SELECT '0190b000-0000-7000-8000-000000000001', 1, $2::timestamptz + interval '1 day', $1::int * count(*) FROM meters`, []any{organizations, day}},
		{`INSERT INTO usage_batch_rows (day, instance_id, seq, organization_id, meter, plan, plan_version, value, at)
			SELECT $1::timestamptz::date, '0190b000-0000-7000-8000-000000000001', 1, o.id, m.key, '', 0,
				100 + (hashtext(o.id::text || m.key) & 1048575), $1::timestamptz + interval '10 hours'
			FROM organizations o CROSS JOIN meters m WHERE o.created_at = '2020-01-01'`, []any{day}},
		{`INSERT INTO usage_daily (organization_id, meter, day, value, last_at)
			SELECT organization_id, meter, day, value, at FROM usage_batch_rows WHERE instance_id = '0190b000-0000-7000-8000-000000000001'`, nil},
		{`INSERT INTO credit_grants (id, organization_id, currency, amount, priority, effective_at, note)
			SELECT tollgate_uuidv7(), id, 'USD', 5, 50, $1, 'seed' FROM organizations WHERE created_at = '2020-01-01'`, []any{period.Start()}},
		{`INSERT INTO credit_entries (id, grant_id, organization_id, kind, debit, credit, amount, currency, key)
			SELECT tollgate_uuidv7(), id, organization_id, 'grant', 'granted', 'customer_credit', amount, currency, 'grant/' || id FROM credit_grants`, nil},
		{`ANALYZE`, nil},
	} {
		_, err := db.Exec(context.Background(), step.statement, step.arguments...)
		require.NoError(t, err, step.statement)
	}
}

// backdate makes an organization one that was there, with its plan, since a time.
func (s *system) backdate(organization uuid.UUID, at time.Time) {
	s.t.Helper()
	db := s.owner()
	for _, statement := range []string{
		`UPDATE organizations SET created_at = $2 WHERE id = $1`,
		`UPDATE organization_plans SET effective_from = $2 WHERE organization_id = $1`,
	} {
		_, err := db.Exec(s.t.Context(), statement, organization, at)
		require.NoError(s.t, err)
	}
}

// nightly rolls up a period's days as the schedule does at night, but the last one that is over: an
// export then has one day to roll up, as it has in production, and not one for each day of the month so far.
func (s *system) nightly(period calendar.Period) {
	s.t.Helper()
	days, err := s.store().DaysToRollUp(s.t.Context(), period.FirstDay(), min(period.LastDay(), calendar.DayOf(time.Now())-1))
	require.NoError(s.t, err)
	for _, day := range days[:max(0, len(days)-1)] {
		_, err := s.store().RollUpDay(s.t.Context(), day)
		require.NoError(s.t, err)
	}
}
