package pgstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// ApplyBatch implements [meter.Store]. What of a batch is refused for good is set aside in
// usage_quarantine, in the same transaction: by a broken constraint, as out of range, as
// text that can't be stored, of a meter that is not published, of an organization that
// isn't there, or as a second row of the same key.
//
// The calls of one instance wait for each other; those of different instances
// lock identified reports, records and windows in the same order, and so never deadlock.
func (s *Store) ApplyBatch(ctx context.Context, batch meter.Batch) (meter.Applied, error) {
	var applied meter.Applied
	var own turn
	err := s.asPlatformWriting(ctx, func(ctx context.Context, tx scoped) (err error) {
		if batch.WatermarkOnly {
			applied, err = moveWatermark(ctx, tx, batch)
			return err
		}
		own = s.turns.next(len(batch.Rows))
		applied, err = applyRows(ctx, tx, batch, meter.InstanceLive, nil, &own)
		return err
	})
	s.turns.after(own)
	if refusedForGood(err) && !batch.WatermarkOnly {
		applied, err = s.applySorted(ctx, batch)
	}
	return applied, wrap(err, "apply batch %d of instance %s", batch.ID.Seq, batch.ID.Instance)
}

// moveWatermark applies a batch that has no identity of its own. An instance that is idle does so at each flush.
func moveWatermark(ctx context.Context, tx scoped, batch meter.Batch) (meter.Applied, error) {
	if len(batch.Rows) > 0 {
		return meter.Applied{}, fmt.Errorf("a batch that only moves the watermark has %d rows", len(batch.Rows))
	}
	moved, err := tx.Exec(ctx, `
		UPDATE instances
		SET watermark = greatest(watermark, $3), seen_at = greatest(seen_at, clock_timestamp()), status = 'live',
			open_count = $4, open_since = $5, open_organization_id = $6, open_meter = $7
		WHERE id = $1 AND last_seq = $2`,
		batch.ID.Instance, batch.ID.Seq, batch.Watermark,
		batch.Open.Count, orNull(batch.Open.Since), orNull(batch.Open.Organization), orNull(batch.Open.Meter))
	if err != nil || moved.RowsAffected() > 0 {
		return meter.Applied{}, err
	}
	var last int64
	err = tx.QueryRow(ctx, `SELECT last_seq FROM instances WHERE id = $1`, batch.ID.Instance).Scan(&last)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return meter.Applied{}, meter.ErrUnknownInstance.Of(batch.ID.Instance)
	case err != nil:
		return meter.Applied{}, err
	case last > batch.ID.Seq:
		return meter.Applied{Duplicate: true}, nil
	default:
		// Moving the watermark would claim that a missing batch was written.
		return meter.Applied{}, fmt.Errorf("%w: the last is %d", meter.ErrSequenceGap, last)
	}
}

// applyRows applies a batch that has an identity, and leaves its instance in the
// status. held is what a reservation held of the batch's one row; nil: none.
func applyRows(
	ctx context.Context, tx scoped, batch meter.Batch, status meter.InstanceStatus, held *heldQuota, turn *turn,
) (meter.Applied, error) {
	c, err := newColumns(batch.Rows)
	if err != nil {
		return meter.Applied{}, err
	}
	next, err := c.claim(ctx, tx, batch, status, turn.taken)
	if err != nil {
		return meter.Applied{}, err
	}
	identified := identifiedOf(batch.Rows)
	if !next {
		return notNext(ctx, tx, batch, c, identified, status)
	}
	if err := identified.count(ctx, tx, batch.ID, identified.places); err != nil {
		return meter.Applied{}, err
	}
	conflicts, err := identified.noteConflicts(ctx, tx, batch.ID)
	if err != nil {
		return meter.Applied{}, err
	}
	applied := meter.Applied{Repeated: identified.repeated(), Conflicts: conflicts}
	written, left := c.split(c.fold(batch.Rows, identified))
	if len(batch.Rows) > 0 {
		applied.Stored = make([]int64, len(batch.Rows))
	}
	open, err := written.write(ctx, tx, batch, len(applied.Repeated), applied.Stored, turn)
	if err != nil {
		return meter.Applied{}, err
	}
	if err := written.consume(ctx, tx, batch.ID.Instance, open, held); err != nil {
		return meter.Applied{}, err
	}
	return applied, left.read(ctx, tx, applied.Stored)
}

// notNext answers for a batch that doesn't follow its instance's last one. Those of instances
// that are always stopped are made of what has their identity: a file's digest.
func notNext(
	ctx context.Context, tx scoped, batch meter.Batch, c *columns, identified *identifiedReports, status meter.InstanceStatus,
) (meter.Applied, error) {
	var last int64
	var applied bool
	err := tx.QueryRow(ctx, `
		SELECT last_seq, EXISTS (SELECT FROM usage_batches WHERE instance_id = $1 AND seq = $2)
		FROM instances WHERE id = $1`, batch.ID.Instance, batch.ID.Seq).Scan(&last, &applied)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return meter.Applied{}, meter.ErrUnknownInstance.Of(batch.ID.Instance)
	case err != nil:
		return meter.Applied{}, err
	case !applied:
		return meter.Applied{}, fmt.Errorf("%w: the last is %d", meter.ErrSequenceGap, last)
	}
	answer := meter.Applied{Duplicate: true}
	if status == meter.InstanceLive {
		if answer.Differs, err = compareApplied(ctx, tx, batch, identified.rows); err != nil {
			return meter.Applied{}, err
		}
	}
	if last < batch.ID.Seq {
		if err := foundAgain(ctx, tx, batch.ID); err != nil {
			return meter.Applied{}, err
		}
	}
	if err := identified.recall(ctx, tx, batch.ID); err != nil {
		return meter.Applied{}, err
	}
	answer.Repeated = identified.repeated()
	if answer.Quarantined, err = recallQuarantined(ctx, tx, batch); err != nil {
		return meter.Applied{}, err
	}
	if len(batch.Rows) > 0 {
		answer.Stored = make([]int64, len(batch.Rows))
	}
	return answer, c.read(ctx, tx, answer.Stored)
}

// read puts the records of the rows, as they are, into stored; zero where there is none.
func (c *columns) read(ctx context.Context, tx scoped, stored []int64) error {
	for _, part := range c.parts() {
		if len(part.values) == 0 {
			continue
		}
		rows, err := tx.Query(ctx, `
			SELECT coalesce(u.value, 0)
			FROM unnest($1::uuid[], $2::text[], $3::int4[]) WITH ORDINALITY AS r (organization_id, meter, day, place)
			LEFT JOIN usage_daily u
				ON u.organization_id = r.organization_id AND u.meter = r.meter AND u.day = date '1970-01-01' + r.day
			ORDER BY r.place`, part.organizations, part.meters, part.days)
		if err != nil {
			return err
		}
		if err := part.collect(rows, stored); err != nil {
			return err
		}
	}
	return nil
}

// readMeters reads the published meters for [collectMeters].
const readMeters = `SELECT key, aggregation FROM meters`

func collectMeters(rows pgx.Rows) (map[string]plans.Aggregation, error) {
	published := map[string]plans.Aggregation{}
	var key string
	var aggregation plans.Aggregation
	_, err := pgx.ForEachRow(rows, []any{&key, &aggregation}, func() error {
		published[key] = aggregation
		return nil
	})
	return published, err
}

// claim locks the batch's days, waits for its turn if it takes one, moves its instance on to it, and reports
// whether it was the next of that instance. It refuses a batch whose meters are not the
// published ones, or of organizations that aren't there: what it wrote could never be
// rolled up, or billed.
func (c *columns) claim(ctx context.Context, tx scoped, batch meter.Batch, status meter.InstanceStatus, inTurn bool) (next bool, err error) {
	var published map[string]plans.Aggregation
	var b pgx.Batch
	b.Queue(readMeters).Query(func(rows pgx.Rows) (err error) {
		published, err = collectMeters(rows)
		return err
	})
	var strangers []uuid.UUID
	b.Queue(`SELECT id FROM unnest($1::uuid[]) AS d (id) WHERE NOT EXISTS (SELECT FROM organizations o WHERE o.id = d.id)`,
		c.distinctOrganizations()).Query(func(rows pgx.Rows) (err error) {
		strangers, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		return err
	})
	b.Queue(string(shared), int32(dayLocks), c.distinctDays)
	if inTurn {
		b.Queue(takeTurn)
	}
	b.Queue(`
		UPDATE instances
		SET last_seq = $2, watermark = greatest(watermark, $3), seen_at = greatest(seen_at, clock_timestamp()), status = $4,
			open_count = $5, open_since = $6, open_organization_id = $7, open_meter = $8
		WHERE id = $1 AND last_seq = $2 - 1 AND NOT EXISTS (SELECT FROM usage_batches WHERE instance_id = $1 AND seq = $2)`,
		batch.ID.Instance, batch.ID.Seq, batch.Watermark, status,
		batch.Open.Count, orNull(batch.Open.Since), orNull(batch.Open.Organization), orNull(batch.Open.Meter)).Exec(func(tag pgconn.CommandTag) error {
		next = tag.RowsAffected() > 0
		return nil
	})
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return false, err
	}
	for key, aggregation := range c.aggregations {
		if published[key] != aggregation {
			return false, fmt.Errorf("%w: %s (%s) is not in the published catalog", ErrUnknownMeter, key, aggregation)
		}
	}
	if len(strangers) > 0 {
		return false, fmt.Errorf("%w: %s", errStranger, strangers[0])
	}
	return next, nil
}

// write inserts the batch and folds its rows into the records. It puts the records'
// values, in the order of the batch, into stored, and returns which kinds of window
// may be open.
func (c *columns) write(ctx context.Context, tx scoped, batch meter.Batch, repeated int, stored []int64, turn *turn) (openKinds, error) {
	var open openKinds
	sums, peaks := c.metersOf(plans.Sum), c.metersOf(plans.Max)
	parts := c.parts()
	for n, part := range parts {
		var b pgx.Batch
		if n == 0 {
			queueBatch(&b, batch, len(c.values), repeated, 0)
		}
		if len(part.values) > 0 {
			part.queueRows(&b, batch.ID, sums, peaks, stored, turn)
		}
		if n == len(parts)-1 && len(c.values) > 0 {
			queueStale(&b, c.distinctDays)
			if len(sums) > 0 {
				open.queue(&b, c.distinctDays)
			}
		}
		if err := tx.SendBatch(ctx, &b).Close(); err != nil {
			return open, err
		}
	}
	return open, nil
}

// queueBatch adds the statement that inserts the batch's identity.
func queueBatch(b *pgx.Batch, batch meter.Batch, rows, repeated, quarantined int) {
	digest := batch.Digest()
	b.Queue(`
		INSERT INTO usage_batches (instance_id, seq, watermark, row_count, reports, journalled, repeated, quarantined, digest)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		batch.ID.Instance, batch.ID.Seq, batch.Watermark, rows, batch.Reports, batch.Journalled, repeated, quarantined, digest[:])
}

// queueStale adds the statement that marks the rollups of days. They are locked in the
// order of days, as every writer does.
func queueStale(b *pgx.Batch, days []int32) {
	b.Queue(`
		UPDATE usage_rollups SET stale = true
		WHERE day IN (
			SELECT day FROM usage_rollups
			WHERE day IN (SELECT date '1970-01-01' + d FROM unnest($1::int4[]) d) AND NOT stale
			ORDER BY day FOR NO KEY UPDATE)`, days)
}

// queueRows adds the statements that write the rows.
func (c *columns) queueRows(b *pgx.Batch, id meter.BatchID, sums, peaks []string, stored []int64, turn *turn) {
	b.Queue(`
		INSERT INTO usage_batch_rows (day, instance_id, seq, organization_id, meter, plan, plan_version, value, at)
		SELECT date '1970-01-01' + day, $1, $2, organization_id, meter, plan, plan_version, value, at
		FROM unnest($3::uuid[], $4::text[], $5::int4[], $6::text[], $7::int8[], $8::int8[], $9::timestamptz[])
			AS r (organization_id, meter, day, plan, plan_version, value, at)`,
		id.Instance, id.Seq, c.organizations, c.meters, c.days, c.plans, c.planVersions, c.values, c.ats)
	records, folded := c.records()
	put := b.Queue(turn.putRecords(), records.organizations, records.meters, records.days, records.values, records.ats, sums, peaks)
	put.QueryRow(func(row pgx.Row) error {
		values := make([]int64, 0, len(records.values))
		var met bool
		if err := row.Scan(&values, &met); err != nil {
			return err
		}
		turn.met = turn.met || met
		return c.spread(values, folded, stored)
	})
}
