package pgstore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/sinks"
	"github.com/riverline/tollgate/webhooks"
)

// figuresFor is how far back the figures look that would otherwise never fall again.
const figuresFor = "1 day"

const (
	// backlogOf reads what is on its way to endpoints.
	backlogOf = `
		(SELECT count(*), min(created_at) FROM events WHERE dispatched_at IS NULL) AS e,
		(SELECT count(*) FILTER (WHERE attempts = 0), count(*) FILTER (WHERE attempts > 0) FROM webhook_deliveries WHERE state = 'pending') AS d,
		(SELECT count(*) FROM webhook_deliveries WHERE state = 'exhausted' AND updated_at > now() - interval '` + figuresFor + `') AS x`

	quarantinedRows = `SELECT count(*) FROM usage_quarantine WHERE state = 'quarantined'`
	missingTotal    = `SELECT coalesce(sum(last_seq - first_seq + 1), 0)::bigint FROM usage_missing_batches`
	batchConflicts  = `SELECT count(*) FROM usage_batch_conflicts`
	stuckHeld       = `SELECT count(*) FROM reservations_stuck JOIN reservations r USING (organization_id, id) WHERE r.state = 'held'`
)

// Stand returns what waits and what is stuck, of usage and on its way to endpoints: in one query, since people look again and again.
func (s *Store) Stand(ctx context.Context) (meter.Stand, webhooks.Backlog, error) {
	var m meter.Stand
	var b webhooks.Backlog
	var since *time.Time
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		return tx.QueryRow(ctx, `
			SELECT (`+quarantinedRows+`), (`+missingTotal+`), (`+batchConflicts+`), (`+stuckHeld+`), e.*, d.*, x.* FROM `+backlogOf,
		).Scan(&m.Quarantined, &m.MissingBatches, &m.BatchConflicts, &m.StuckReservations, &b.Undispatched, &since, &b.Pending, &b.Failing, &b.Exhausted)
	})
	if since != nil {
		b.UndispatchedSince = *since
	}
	return m, b, wrap(err, "read what waits and what is stuck")
}

// count is the one number of a query.
func (s *Store) count(ctx context.Context, query, what string) (int64, error) {
	var n int64
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error { return tx.QueryRow(ctx, query).Scan(&n) })
	return n, wrap(err, "count %s", what)
}

// WebhookBacklog returns what is on its way to endpoints, of all organizations. Exhausted are those
// of the last day.
func (s *Store) WebhookBacklog(ctx context.Context) (webhooks.Backlog, error) {
	var b webhooks.Backlog
	var since *time.Time
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		return tx.QueryRow(ctx, `SELECT e.*, d.*, x.* FROM `+backlogOf).Scan(&b.Undispatched, &since, &b.Pending, &b.Failing, &b.Exhausted)
	})
	if since != nil {
		b.UndispatchedSince = *since
	}
	return b, wrap(err, "count what is on its way to endpoints")
}

// UndeliveredStatements returns how many statements of closed periods, in the revision that counts,
// were refused by a sink or belong to an organization that it doesn't know.
func (s *Store) UndeliveredStatements(ctx context.Context) (map[sinks.State]int64, error) {
	counts := map[sinks.State]int64{sinks.NoCustomer: 0, sinks.Failed: 0}
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.Query(ctx, `
			SELECT u.state, count(*) FROM statement_undelivered u JOIN exports e ON e.id = u.export_id
			WHERE u.state IN ('no_customer', 'failed') AND e.stage IN ('delivering', 'closed')
			GROUP BY u.state`)
		if err != nil {
			return err
		}
		var state sinks.State
		var n int64
		_, err = pgx.ForEachRow(rows, []any{&state, &n}, func() error {
			counts[state] = n
			return nil
		})
		return err
	})
	return counts, wrap(err, "count statements that are not delivered")
}

// CountInstances returns how many instances are live, and how many were declared lost that had been
// seen within the last day.
func (s *Store) CountInstances(ctx context.Context) (map[meter.InstanceStatus]int64, error) {
	var live, lost int64
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		return tx.QueryRow(ctx, `
			SELECT (SELECT count(*) FROM instances WHERE status = 'live'),
				(SELECT count(*) FROM instances WHERE status <> 'live' AND status = 'lost' AND seen_at > now() - interval '`+figuresFor+`')`).Scan(&live, &lost)
	})
	return map[meter.InstanceStatus]int64{meter.InstanceLive: live, meter.InstanceLost: lost}, wrap(err, "count instances")
}
