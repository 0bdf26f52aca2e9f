package pgstore

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// writing writes the rows of a batch and their records. Where somebody else is writing one of the
// records, it puts none: the batch is named among those that wait to be folded (usage_unfolded), and
// counts from its commit on. So instances that flush the same records don't wait for each other's
// transactions.
type writing struct {
	batch    meter.Batch
	repeated int
	// stored takes the records' values, in the order of the batch.
	stored []int64
	// mayWait says that the batch may wait to be folded.
	mayWait bool

	// waiting is how many batches wait to be folded, open which kinds of window may be open.
	waiting int
	open    openKinds
}

// write inserts the batch with its rows, and writes the records.
func (w *writing) write(ctx context.Context, tx scoped, c *columns) error {
	how := putRecords
	if w.mayWait {
		how = tryRecords
	}
	parts := c.parts()
	for n, part := range parts {
		var b pgx.Batch
		if n == 0 {
			queueBatch(&b, w.batch, len(c.values), w.repeated, 0)
		}
		var put bool
		if len(part.values) > 0 {
			part.queueRows(&b, w.batch.ID)
			part.queueRecords(&b, w.batch.ID.Instance, how, w.stored, &put)
		}
		if n == len(parts)-1 && len(c.values) > 0 {
			queueStale(&b, c.distinctDays)
			w.queueLooks(&b, c)
		}
		if err := tx.SendBatch(ctx, &b).Close(); err != nil {
			return err
		}
		// The first part decides for all.
		if how = putRecords; !put {
			how = withRecords
		}
	}
	switch {
	case how == withRecords && len(c.values) > 0:
		return w.wait(ctx, tx, c)
	case w.waiting > 0:
		return w.addWaiting(ctx, tx, c)
	default:
		return nil
	}
}

// addWaiting adds what waits of the instance to the sums of records that were put. Nobody folds into these until the transaction ends.
func (w *writing) addWaiting(ctx context.Context, tx scoped, c *columns) error {
	for _, part := range c.parts() {
		rows, err := tx.Query(ctx, `
			SELECT coalesce(x.added, 0)::bigint
			FROM unnest($1::uuid[], $2::text[], $3::int4[]) WITH ORDINALITY AS r (organization_id, meter, day, place)
			LEFT JOIN tollgate_waiting_sums($4) x
				ON x.organization_id = r.organization_id AND x.meter = r.meter AND x.day = date '1970-01-01' + r.day
			ORDER BY r.place`, part.organizations, part.meters, part.days, w.batch.ID.Instance)
		if err != nil {
			return err
		}
		added := make([]int64, len(w.stored))
		if err := part.collect(rows, added); err != nil {
			return err
		}
		for i, key := range part.meters {
			if c.aggregations[key] == plans.Sum {
				w.stored[part.placeOf(i)] += added[part.placeOf(i)]
			}
		}
	}
	return nil
}

// wait names the batch among those that wait. It looks for windows again, with who opens one shut out: what they read
// has the batch, or it finds the window.
func (w *writing) wait(ctx context.Context, tx scoped, c *columns) error {
	var b pgx.Batch
	b.Queue(`INSERT INTO usage_unfolded (day, instance_id, seq) SELECT date '1970-01-01' + d, $2, $3 FROM unnest($1::int4[]) d`,
		c.ownDays(), w.batch.ID.Instance, w.batch.ID.Seq)
	b.Queue(`LOCK TABLE usage_opening IN ROW EXCLUSIVE MODE`)
	w.queueLooks(&b, c)
	return tx.SendBatch(ctx, &b).Close()
}

// queueLooks adds the statements that look for batches that wait, and for windows. They come after the records: who
// opens a window takes them first.
func (w *writing) queueLooks(b *pgx.Batch, c *columns) {
	b.Queue(`SELECT count(*) FROM usage_unfolded`).QueryRow(func(row pgx.Row) error { return row.Scan(&w.waiting) })
	if len(c.metersOf(plans.Sum)) > 0 {
		w.open.queue(b, c.distinctDays)
	}
}

// maxLow bounds the rows of a batch that may wait: what waits takes a record beyond [plans.MaxDaySum] by no more
// than a tenth of it, for which the record has room.
const maxLow = plans.MaxDaySum / 10_000

// isLow reports whether all rows are at most maxLow.
func (c *columns) isLow() bool {
	for _, value := range c.values {
		if value > maxLow {
			return false
		}
	}
	return true
}

// What is done with the records of rows: they are put, or only read as they would be, or put where nobody else is
// writing one of them.
const (
	putRecords  = `SELECT tollgate_put_records($2, $3, $4, $5, $6, $7, $8), $1::uuid IS NOT NULL`
	withRecords = `SELECT tollgate_records_with($1, $2, $3, $4, $5, $6, $7, $8), false`
	tryRecords  = `SELECT answers, put FROM tollgate_try_records($1, $2, $3, $4, $5, $6, $7, $8)`
)

// queueRecords adds the statement that does it. It puts the records' values, in the order of the batch, into stored,
// and says in put whether they were put.
func (c *columns) queueRecords(b *pgx.Batch, instance uuid.UUID, how string, stored []int64, put *bool) {
	records, folded := c.records()
	b.Queue(how, instance, records.organizations, records.meters, records.days, records.values, records.ats, c.metersOf(plans.Sum), c.metersOf(plans.Max)).
		QueryRow(func(row pgx.Row) error {
			var values []int64
			if err := row.Scan(&values, put); err != nil {
				return err
			}
			return c.spread(values, folded, stored)
		})
}
