package pgstore

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
)

// A comparison's statement answers one row for each difference, up to $3, with what was
// compared and what differs in all beside it; one row of nulls where nothing differs.
// $1 and $2 are the first and the last day. Its source is a query with the columns
// organization_id, meter, day, instance_id, seq, left_value, right_value.
const (
	compareHead = `WITH compared AS MATERIALIZED (`
	compareTail = `),
		counts AS (SELECT count(*) AS compared, count(*) FILTER (WHERE differs) AS different FROM compared),
		different AS (
			SELECT organization_id, meter, day, instance_id, seq, left_value, right_value FROM compared WHERE differs
			ORDER BY organization_id, meter, day, instance_id, seq LIMIT $3)
		SELECT counts.compared, counts.different, d.organization_id, coalesce(d.meter, ''), d.day, d.instance_id, coalesce(d.seq, 0),
			coalesce(d.left_value, 0), coalesce(d.right_value, 0)
		FROM counts LEFT JOIN different d ON true`

	// A batch that a process without a journal wrote has nothing to be compared with. One without rows,
	// all of which had been counted before, belongs to the day on which it was applied.
	compareJournal = `
		SELECT NULL::uuid AS organization_id, NULL::text AS meter, NULL::date AS day, b.instance_id, b.seq,
			b.reports AS left_value, b.journalled AS right_value, b.reports <> b.journalled AS differs
		FROM usage_batches b
		WHERE b.journalled IS NOT NULL AND (
			b.row_count = 0 AND (b.applied_at AT TIME ZONE 'UTC')::date BETWEEN $1 AND $2
			OR EXISTS (
				SELECT FROM usage_batch_rows r WHERE r.day BETWEEN $1 AND $2 AND r.instance_id = b.instance_id AND r.seq = b.seq))`

	// Days whose batch rows were dropped have nothing that their records could be compared with.
	// Of two snapshots with the same time the record's choice counts, as in a rollup.
	compareRecords = `
		SELECT organization_id, meter, day, NULL::uuid AS instance_id, NULL::bigint AS seq,
			b.value AS left_value, u.value AS right_value, b.value IS DISTINCT FROM u.value AS differs
		FROM (
			SELECT r.organization_id, r.meter, r.day,
				CASE m.aggregation
					WHEN 'sum' THEN least(sum(r.value), 9223372036854775807)
					WHEN 'max' THEN max(r.value)
					ELSE (array_agg(r.value ORDER BY r.at DESC, (u.last_at = r.at AND u.value = r.value) DESC NULLS LAST,
						r.seq DESC, r.instance_id DESC, r.plan COLLATE "C" DESC, r.plan_version DESC))[1]
				END::bigint AS value
			FROM usage_batch_rows r
			JOIN meters m ON m.key = r.meter
			LEFT JOIN usage_daily u ON m.aggregation = 'last'
				AND u.organization_id = r.organization_id AND u.meter = r.meter AND u.day = r.day
			WHERE r.day BETWEEN $1 AND $2 AND r.day >= (SELECT rows_from FROM usage_retention)
			GROUP BY r.organization_id, r.meter, r.day, m.aggregation
		) AS b
		FULL JOIN (
			SELECT organization_id, meter, day, value FROM usage_daily
			WHERE day BETWEEN $1 AND $2 AND day >= (SELECT rows_from FROM usage_retention)
		) AS u
			USING (organization_id, meter, day)`

	// Only rolled days that nothing came to since.
	compareRolled = `
		SELECT organization_id, meter, day, NULL::uuid AS instance_id, NULL::bigint AS seq,
			u.value AS left_value, r.value AS right_value, u.value IS DISTINCT FROM r.value AS differs
		FROM (
			SELECT u.organization_id, u.meter, u.day, u.value FROM usage_daily u
			JOIN usage_rollups d ON d.day = u.day AND NOT d.stale
			WHERE u.day BETWEEN $1 AND $2
		) AS u
		FULL JOIN (
			SELECT r.organization_id, r.meter, r.day, r.value FROM usage_rolled r
			JOIN usage_rollups d ON d.day = r.day AND NOT d.stale
			WHERE r.day BETWEEN $1 AND $2 AND NOT r.carried
		) AS r USING (organization_id, meter, day)`

	// Only days up to which every rolled day of the month continues the one before it.
	compareTotals = `
		SELECT r.organization_id, r.meter, r.day, NULL::uuid AS instance_id, NULL::bigint AS seq,
			t.value AS left_value, r.month_to_date AS right_value, r.month_to_date IS DISTINCT FROM t.value AS differs
		FROM (
			SELECT d.day FROM usage_rollups d
			WHERE d.day BETWEEN $1 AND $2 AND NOT EXISTS (
				SELECT FROM (
					SELECT p.day, p.stale, p.basis_day, p.basis_revision,
						lag(p.day) OVER (ORDER BY p.day) AS before, lag(p.content_revision) OVER (ORDER BY p.day) AS revision
					FROM usage_rollups p
				) AS chain
				WHERE chain.day BETWEEN date_trunc('month', d.day::timestamp)::date AND d.day
					AND (chain.stale OR chain.basis_day IS DISTINCT FROM chain.before OR chain.basis_revision IS DISTINCT FROM chain.revision))
		) AS good
		JOIN usage_rolled r ON r.day = good.day
		JOIN meters m ON m.key = r.meter
		CROSS JOIN LATERAL (
			SELECT CASE m.aggregation
					WHEN 'sum' THEN least(sum(p.value), 9223372036854775807)
					WHEN 'max' THEN max(p.value)
					ELSE r.value
				END::bigint AS value
			FROM usage_rolled p
			WHERE p.organization_id = r.organization_id AND p.meter = r.meter
				AND p.day BETWEEN date_trunc('month', r.day::timestamp)::date AND r.day
		) AS t`

	windowsInRange = ` FROM quota_windows w WHERE w.window_start <= $2 AND w.window_end > $1`

	compareQuota = `
		SELECT w.organization_id, w.meter, w.window_start AS day, NULL::uuid AS instance_id, NULL::bigint AS seq,
			w.consumed + w.unleased AS left_value, u.value AS right_value, w.consumed + w.unleased <> u.value AS differs
		FROM (SELECT w.*` + windowsInRange + `) AS w
		CROSS JOIN LATERAL (
			SELECT (coalesce((
				SELECT sum(u.value) FROM usage_daily u
				WHERE u.organization_id = w.organization_id AND u.meter = w.meter AND u.day >= w.window_start AND u.day < w.window_end
			), 0) + coalesce((
				SELECT sum(q.in_windows) FROM usage_quarantine q
				WHERE q.organization_id = w.organization_id AND q.meter = w.meter AND q.day >= w.window_start AND q.day < w.window_end
					AND q.state = 'quarantined'
			), 0))::bigint AS value
		) AS u`

	compareLeases = `
		SELECT w.organization_id, w.meter, w.window_start AS day, NULL::uuid AS instance_id, NULL::bigint AS seq,
			w.leased AS left_value, l.value AS right_value, w.leased <> l.value AS differs
		FROM (SELECT w.*` + windowsInRange + `) AS w
		CROSS JOIN LATERAL (
			SELECT coalesce(sum(l.granted), 0)::bigint AS value FROM quota_leases l
			WHERE (l.organization_id, l.meter, l.limit_window, l.window_start) = (w.organization_id, w.meter, w.limit_window, w.window_start)
		) AS l`

	compareHeld = `
		SELECT w.organization_id, w.meter, w.window_start AS day, NULL::uuid AS instance_id, NULL::bigint AS seq,
			w.held AS left_value, r.value AS right_value, w.held <> r.value AS differs
		FROM (SELECT w.*` + windowsInRange + `) AS w
		CROSS JOIN LATERAL (
			SELECT coalesce(sum(r.quantity), 0)::bigint AS value FROM reservations r
			WHERE r.organization_id = w.organization_id AND r.meter = w.meter AND r.day >= w.window_start AND r.day < w.window_end
				AND r.state = 'held'
		) AS r`

	compareMax = `
		SELECT w.organization_id, w.meter, w.window_start AS day, NULL::uuid AS instance_id, NULL::bigint AS seq,
			w.consumed + w.leased + w.held AS left_value, w.max AS right_value, w.consumed + w.leased + w.held > w.max AS differs
		FROM (SELECT w.*` + windowsInRange + `) AS w`

	compareQuarantine = `
		SELECT NULL::uuid AS organization_id, NULL::text AS meter, NULL::date AS day, b.instance_id, b.seq,
			b.quarantined AS left_value, q.rows AS right_value, b.quarantined <> q.rows AS differs
		FROM usage_batches b
		CROSS JOIN LATERAL (
			SELECT count(*) AS rows FROM usage_quarantine q WHERE q.instance_id = b.instance_id AND q.seq = b.seq
		) AS q
		WHERE b.quarantined > 0 AND (
			(b.applied_at AT TIME ZONE 'UTC')::date BETWEEN $1 AND $2
			OR EXISTS (
				SELECT FROM usage_quarantine q
				WHERE q.day BETWEEN $1 AND $2 AND q.instance_id = b.instance_id AND q.seq = b.seq))`
)

// comparisons are the statements, in the order of [billing.Comparisons].
var comparisons = []string{
	compareJournal, compareRecords, compareRolled, compareTotals, compareQuota, compareLeases, compareHeld, compareQuarantine, compareMax,
}

// Reconcile compares what each layer says of the usage of the days from from to to, both
// included, all of it as of one moment: acknowledged = journalled = batches = records
// = rolled = totals, and the windows of hard limits with the records, the leases and
// the reservations. Rolled days are compared where nothing came to them since, batches
// with their journal where they had one.
func (s *Store) Reconcile(ctx context.Context, from, to calendar.Day) (billing.Reconciliation, error) {
	found := billing.Reconciliation{From: from, To: to, Differences: []billing.Difference{}}
	err := s.asPlatformSnapshot(ctx, func(ctx context.Context, tx scoped) error {
		for i, comparison := range billing.Comparisons() {
			if err := compare(ctx, tx, comparison, comparisons[i], &found); err != nil {
				return err
			}
		}
		return tx.QueryRow(ctx, `
			SELECT (SELECT count(*) FROM usage_quarantine WHERE state = 'quarantined' AND day BETWEEN $1 AND $2),
				coalesce(sum(m.last_seq - m.first_seq + 1), 0)::bigint, coalesce(sum(m.reports), 0)::bigint,
				(SELECT count(*) FROM usage_batch_conflicts)
			FROM usage_missing_batches m`, date(from), date(to)).
			Scan(&found.Quarantined, &found.MissingBatches, &found.MissingReports, &found.BatchConflicts)
	})
	return found, wrap(err, "reconcile %s to %s", from, to)
}

func compare(ctx context.Context, tx scoped, comparison billing.Comparison, statement string, found *billing.Reconciliation) error {
	room := max(0, billing.MaxDifferences-len(found.Differences))
	rows, err := tx.Query(ctx, compareHead+statement+compareTail, date(found.From), date(found.To), room)
	if err != nil {
		return err
	}
	compared := billing.Compared{Comparison: comparison}
	var organization, instance *uuid.UUID
	var day *time.Time
	d := billing.Difference{Comparison: comparison}
	_, err = pgx.ForEachRow(rows, []any{
		&compared.Compared, &compared.Different, &organization, &d.Meter, &day, &instance, &d.Seq, &d.LeftValue, &d.RightValue,
	}, func() error {
		if organization == nil && instance == nil {
			return nil
		}
		d.Organization, d.Instance, d.Day = uuid.Nil, uuid.Nil, 0
		if organization != nil {
			d.Organization = *organization
		}
		if instance != nil {
			d.Instance = *instance
		}
		if day != nil {
			d.Day = calendar.DayOf(*day)
		}
		found.Differences = append(found.Differences, d)
		return nil
	})
	found.Compared = append(found.Compared, compared)
	return err
}
