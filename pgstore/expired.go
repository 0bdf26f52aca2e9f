package pgstore

import (
	"context"
	"time"

	"github.com/riverline/tollgate/billing"
)

// expiredChunk is how many rows one transaction deletes: it holds no lock for long.
const expiredChunk = 10_000

// The statements of [Store.DeleteExpired]: $1 is the time before which things are, $2 how
// many are deleted at most.
const (
	deleteIdentities = `
		DELETE FROM usage_events WHERE (organization_id, identity) IN (
			SELECT organization_id, identity FROM usage_events WHERE counted_at < $1 LIMIT $2)`
	deleteKeys = `
		DELETE FROM usage_keys WHERE (organization_id, identity) IN (
			SELECT organization_id, identity FROM usage_keys WHERE begun_at < $1 LIMIT $2)`
	deleteConflicts = `
		DELETE FROM usage_conflicts WHERE (organization_id, identity, instance_id, seq) IN (
			SELECT organization_id, identity, instance_id, seq FROM usage_conflicts WHERE found_at < $1 LIMIT $2)`
	deleteWrites = `
		DELETE FROM idempotent_writes WHERE (caller, key) IN (
			SELECT caller, key FROM idempotent_writes WHERE begun_at < $1 LIMIT $2)`
	deleteSignIns = `
		DELETE FROM sign_ins WHERE id IN (SELECT id FROM sign_ins WHERE created_at < $1 LIMIT $2)`
	deleteReservations = `
		DELETE FROM reservations WHERE (organization_id, id) IN (
			SELECT organization_id, id FROM reservations WHERE state <> 'held' AND settled_at < $1 LIMIT $2)`
	// A window goes with its leases; one that somebody still holds something of stays.
	deleteWindows = `
		WITH over AS (
			SELECT organization_id, meter, limit_window, window_start FROM quota_window_rows w
			WHERE window_end <= ($1::timestamptz AT TIME ZONE 'UTC')::date AND held = 0 AND NOT EXISTS (
				SELECT FROM quota_leases l
				WHERE (l.organization_id, l.meter, l.limit_window, l.window_start) = (w.organization_id, w.meter, w.limit_window, w.window_start)
					AND l.granted > 0)
			ORDER BY organization_id, meter COLLATE "C", limit_window, window_start
			LIMIT $2 FOR UPDATE
		), leases AS (
			DELETE FROM quota_leases USING over
			WHERE (quota_leases.organization_id, quota_leases.meter, quota_leases.limit_window, quota_leases.window_start)
				= (over.organization_id, over.meter, over.limit_window, over.window_start)
		)
		DELETE FROM quota_window_rows w USING over
		WHERE (w.organization_id, w.meter, w.limit_window, w.window_start)
			= (over.organization_id, over.meter, over.limit_window, over.window_start)`
	// Those that a live instance is to be told of stay, and those to come.
	deletePlanChanges = `
		DELETE FROM plan_changes WHERE number IN (
			SELECT c.number FROM plan_changes c
			WHERE c.due_at < least($1, clock_timestamp()) AND NOT EXISTS (
				SELECT FROM instances i
				WHERE i.status = 'live' AND (i.plans_through < c.number OR i.plans_until < c.effective_from))
			LIMIT $2)`
)

// DeleteExpired deletes what is kept for a time only and is older than a time: identities of
// usage, keys of batches, conflicts between reports, answers to idempotent writes, sign-ins, reservations that have ended, windows of hard
// limits that are over, and changes of plans that every live instance has taken over. It does so in transactions of at most ten thousand rows; what was deleted before an
// error stays so.
func (s *Store) DeleteExpired(ctx context.Context, before time.Time) (billing.Expired, error) {
	var deleted billing.Expired
	for _, one := range []struct {
		statement string
		count     *int64
	}{
		{deleteIdentities, &deleted.Identities},
		{deleteKeys, &deleted.Keys},
		{deleteConflicts, &deleted.Conflicts},
		{deleteWrites, &deleted.Writes},
		{deleteSignIns, &deleted.SignIns},
		{deleteReservations, &deleted.Reservations},
		{deleteWindows, &deleted.Windows},
		{deletePlanChanges, &deleted.PlanChanges},
	} {
		if err := s.deleteInChunks(ctx, one.statement, before, one.count); err != nil {
			return deleted, err
		}
	}
	return deleted, nil
}

// The statements of [Store.DeleteEvents], with the parameters of those above. An event goes whole: with what was
// sent of it, and once the last word on every delivery is as old.
const (
	deleteEvents = `
		WITH over AS (
			SELECT e.id FROM events e
			WHERE e.created_at < $1 AND e.dispatched_at IS NOT NULL AND NOT EXISTS (
				SELECT FROM webhook_deliveries d WHERE d.event_id = e.id AND (d.state = 'pending' OR d.updated_at >= $1))
			ORDER BY e.created_at LIMIT $2 FOR UPDATE OF e
		), attempts AS (
			DELETE FROM webhook_attempts USING over WHERE event_id = over.id
		), deliveries AS (
			DELETE FROM webhook_deliveries USING over WHERE event_id = over.id
		)
		DELETE FROM events USING over WHERE events.id = over.id`
	deleteEndpoints = `
		DELETE FROM webhook_endpoints WHERE id IN (
			SELECT e.id FROM webhook_endpoints e
			WHERE e.deleted_at < $1 AND NOT EXISTS (SELECT FROM webhook_deliveries d WHERE d.endpoint_id = e.id)
			LIMIT $2)`
)

// DeleteEvents deletes the events that are older than a time, with their deliveries and attempts, and then the
// endpoints that their owners deleted before it and that no delivery names any more. An event that is not
// dispatched, or of which a delivery is pending or was tried since, stays.
func (s *Store) DeleteEvents(ctx context.Context, before time.Time) (billing.Expired, error) {
	var deleted billing.Expired
	err := s.deleteInChunks(ctx, deleteEvents, before, &deleted.Events)
	if err == nil {
		err = s.deleteInChunks(ctx, deleteEndpoints, before, &deleted.Endpoints)
	}
	return deleted, err
}

// The statements of [Store.DeleteInstances], with the parameters of those above. While batch rows of a day are kept, so is every
// batch that was applied up to two days before it: what came before has left no row. Only processes have identities of
// version 7 that tell their time. The batches of imported files are what makes these count once; those of [DirectInstance] and
// of [SettlementInstance] are never sent again, and the instances themselves are few.
const (
	processes  = `(substr(i.id::text, 15, 1) = '7' AND i.id > '01000000-0000-7000-8000-000000000000')`
	direct     = `i.id <= '00000000-0000-7000-8000-0000000001ff'`
	withoutRow = `least($1, coalesce((SELECT day FROM usage_batch_rows ORDER BY day LIMIT 1), 'infinity') - interval '2 days')`

	deleteBatches = `
		DELETE FROM usage_batches WHERE (instance_id, seq) IN (
			SELECT b.instance_id, b.seq FROM usage_batches b JOIN instances i ON i.id = b.instance_id AND b.seq < i.last_seq + (i.status <> 'live')::int
			WHERE b.applied_at < ` + withoutRow + ` AND (` + processes + ` OR ` + direct + `) AND b.quarantined = 0
				AND NOT EXISTS (SELECT FROM usage_batch_conflicts c WHERE c.instance_id = b.instance_id AND c.seq = b.seq)
				AND NOT EXISTS (
					SELECT FROM usage_missing_batches m WHERE m.instance_id = b.instance_id AND b.seq BETWEEN m.first_seq AND m.last_seq)
			LIMIT $2)`
	deleteLostLeases = `
		DELETE FROM quota_lost_leases
		WHERE (organization_id, meter, limit_window, window_start, instance_id, released_at) IN (
			SELECT organization_id, meter, limit_window, window_start, instance_id, released_at FROM quota_lost_leases
			WHERE released_at < $1 LIMIT $2)`
	deleteInstances = `
		WITH over AS (
			SELECT i.id, i.seen_at FROM instances i
			WHERE i.status <> 'live' AND i.seen_at < ` + withoutRow + ` AND ` + processes + `
				AND NOT EXISTS (SELECT FROM usage_batches b WHERE b.instance_id = i.id)
				AND NOT EXISTS (SELECT FROM usage_rollup_batches b WHERE b.instance_id = i.id)
				AND NOT EXISTS (SELECT FROM export_batches b WHERE b.instance_id = i.id)
				AND NOT EXISTS (SELECT FROM export_correction_batches b WHERE b.instance_id = i.id)
				AND NOT EXISTS (SELECT FROM usage_missing_batches b WHERE b.instance_id = i.id)
				AND NOT EXISTS (SELECT FROM usage_quarantine q WHERE q.instance_id = i.id)
				AND NOT EXISTS (SELECT FROM quota_leases l WHERE l.instance_id = i.id)
				AND NOT EXISTS (SELECT FROM quota_lost_leases l WHERE l.instance_id = i.id)
			LIMIT $2 FOR UPDATE OF i
		), forgotten AS (
			UPDATE usage_retention SET instances_from = greatest(instances_from, (SELECT max(seen_at) FROM over))
		)
		DELETE FROM instances USING over WHERE instances.id = over.id`
)

// DeleteInstances deletes the batches that were applied before a time and of which no row is left, what lost instances
// held of windows when it was released before it, and then the instances that were seen for the last time before it, are not live, and that nothing names. What it deletes
// can't be registered again.
func (s *Store) DeleteInstances(ctx context.Context, before time.Time) (billing.Expired, error) {
	var deleted billing.Expired
	err := s.deleteInChunks(ctx, deleteBatches, before, &deleted.Batches)
	if err == nil {
		err = s.deleteInChunks(ctx, deleteLostLeases, before, &deleted.LostLeases)
	}
	if err == nil {
		err = s.deleteInChunks(ctx, deleteInstances, before, &deleted.Instances)
	}
	return deleted, err
}

// deleteInChunks runs a statement until it finds no more, a transaction each time, and adds up how many it deleted.
func (s *Store) deleteInChunks(ctx context.Context, statement string, before time.Time, count *int64) error {
	for {
		var n int64
		err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) error {
			tag, err := tx.Exec(ctx, statement, before, expiredChunk)
			n = tag.RowsAffected()
			return err
		})
		if err != nil {
			return wrap(err, "delete what is older than %s", before.Format(time.RFC3339))
		}
		*count += n
		if n < expiredChunk {
			return nil
		}
	}
}
