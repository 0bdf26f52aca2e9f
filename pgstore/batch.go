package pgstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// ApplyBatch implements [meter.Store]. Beyond the errors that it lists, a batch with
// a meter that is not published is [ErrUnknownMeter], and one with two rows of the
// same organization, meter and day is an error; both are permanent.
//
// The calls of one instance wait for each other; those of different instances
// lock records in the same order, and so never deadlock.
func (s *Store) ApplyBatch(ctx context.Context, batch meter.Batch) (meter.Applied, error) {
	var applied meter.Applied
	err := s.asPlatformWriting(ctx, func(ctx context.Context, tx scoped) (err error) {
		if len(batch.Rows) == 0 {
			applied, err = moveWatermark(ctx, tx, batch)
			return err
		}
		applied, err = applyRows(ctx, tx, batch, meter.InstanceLive)
		return err
	})
	return applied, wrap(err, "apply batch %d of instance %s", batch.ID.Seq, batch.ID.Instance)
}

// moveWatermark applies a batch without rows.
func moveWatermark(ctx context.Context, tx scoped, batch meter.Batch) (meter.Applied, error) {
	var last int64
	err := tx.QueryRow(ctx, `SELECT last_seq FROM instances WHERE id = $1 FOR NO KEY UPDATE`, batch.ID.Instance).Scan(&last)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return meter.Applied{}, meter.ErrUnknownInstance
	case err != nil:
		return meter.Applied{}, err
	case last < batch.ID.Seq:
		// Moving the watermark would claim that a missing batch was written.
		return meter.Applied{}, fmt.Errorf("%w: the last is %d", meter.ErrSequenceGap, last)
	case last > batch.ID.Seq:
		return meter.Applied{Duplicate: true}, nil
	}
	_, err = tx.Exec(ctx, `
		UPDATE instances
		SET watermark = greatest(watermark, $2), seen_at = greatest(seen_at, clock_timestamp()), status = 'live'
		WHERE id = $1`, batch.ID.Instance, batch.Watermark)
	return meter.Applied{}, err
}

// applyRows applies a batch with rows, and leaves its instance in the status.
func applyRows(ctx context.Context, tx scoped, batch meter.Batch, status meter.InstanceStatus) (meter.Applied, error) {
	c, err := newColumns(batch.Rows)
	if err != nil {
		return meter.Applied{}, err
	}
	next, err := c.claim(ctx, tx, batch, status)
	if err != nil {
		return meter.Applied{}, err
	}
	if !next {
		return notNext(ctx, tx, batch.ID, c)
	}
	stored, err := c.write(ctx, tx, batch)
	return meter.Applied{Stored: stored}, err
}

// notNext answers for a batch that doesn't follow its instance's last one.
func notNext(ctx context.Context, tx scoped, id meter.BatchID, c *columns) (meter.Applied, error) {
	var last int64
	var applied bool
	err := tx.QueryRow(ctx, `
		SELECT last_seq, EXISTS (SELECT FROM usage_batches WHERE instance_id = $1 AND seq = $2)
		FROM instances WHERE id = $1`, id.Instance, id.Seq).Scan(&last, &applied)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return meter.Applied{}, meter.ErrUnknownInstance
	case err != nil:
		return meter.Applied{}, err
	case !applied:
		return meter.Applied{}, fmt.Errorf("%w: the last is %d", meter.ErrSequenceGap, last)
	}
	rows, err := tx.Query(ctx, `
		SELECT coalesce(u.value, 0)
		FROM unnest($1::uuid[], $2::text[], $3::int4[]) WITH ORDINALITY AS r (organization_id, meter, day, place)
		LEFT JOIN usage_daily u
			ON u.organization_id = r.organization_id AND u.meter = r.meter AND u.day = date '1970-01-01' + r.day
		ORDER BY r.place`, c.organizations, c.meters, c.days)
	if err != nil {
		return meter.Applied{}, err
	}
	stored, err := c.collect(rows)
	return meter.Applied{Duplicate: true, Stored: stored}, err
}

// columns are the rows of a batch as arrays, in the order of their key.
type columns struct {
	organizations [][16]byte
	meters        []string
	days          []int32
	values        []int64
	ats           []time.Time

	// distinctDays is sorted.
	distinctDays []int32
	aggregations map[string]plans.Aggregation
	// place is, for each row as it is written, its place in the batch; nil where
	// the batch is in order.
	place []int
}

func compareRows(a, b meter.Row) int {
	return cmp.Or(
		bytes.Compare(a.Organization[:], b.Organization[:]),
		cmp.Compare(a.Meter, b.Meter),
		cmp.Compare(a.Day, b.Day),
	)
}

func newColumns(rows []meter.Row) (*columns, error) {
	c := &columns{
		organizations: make([][16]byte, len(rows)),
		meters:        make([]string, len(rows)),
		days:          make([]int32, len(rows)),
		values:        make([]int64, len(rows)),
		ats:           make([]time.Time, len(rows)),
		aggregations:  map[string]plans.Aggregation{},
	}
	if !slices.IsSortedFunc(rows, compareRows) {
		c.place = make([]int, len(rows))
		for i := range c.place {
			c.place[i] = i
		}
		slices.SortFunc(c.place, func(i, j int) int { return compareRows(rows[i], rows[j]) })
	}
	for i := range rows {
		row := &rows[c.placeOf(i)]
		if i > 0 && compareRows(rows[c.placeOf(i-1)], *row) == 0 {
			return nil, fmt.Errorf("the batch has organization %s, meter %s, day %s twice", row.Organization, row.Meter, row.Day)
		}
		if known, seen := c.aggregations[row.Meter]; seen && known != row.Aggregation {
			return nil, fmt.Errorf("%w: %s is both %s and %s", ErrUnknownMeter, row.Meter, known, row.Aggregation)
		}
		c.aggregations[row.Meter] = row.Aggregation
		c.organizations[i] = row.Organization
		c.meters[i] = row.Meter
		c.days[i] = int32(row.Day)
		c.values[i] = row.Value
		c.ats[i] = row.At
		if len(c.distinctDays) == 0 || !slices.Contains(c.distinctDays, int32(row.Day)) {
			c.distinctDays = append(c.distinctDays, int32(row.Day))
		}
	}
	slices.Sort(c.distinctDays)
	return c, nil
}

func (c *columns) placeOf(i int) int {
	if c.place == nil {
		return i
	}
	return c.place[i]
}

// metersOf returns the batch's meters that fold by the aggregation.
func (c *columns) metersOf(aggregation plans.Aggregation) []string {
	keys := []string{}
	for key, a := range c.aggregations {
		if a == aggregation {
			keys = append(keys, key)
		}
	}
	return keys
}

// claim locks the batch's days, moves its instance on to it, and reports whether it
// was the next of that instance. It refuses a batch whose meters are not the
// published ones: what it wrote could never be rolled up.
func (c *columns) claim(ctx context.Context, tx scoped, batch meter.Batch, status meter.InstanceStatus) (next bool, err error) {
	published := map[string]plans.Aggregation{}
	var b pgx.Batch
	b.Queue(`SELECT key, aggregation FROM meters`).Query(func(rows pgx.Rows) error {
		var key string
		var aggregation plans.Aggregation
		_, err := pgx.ForEachRow(rows, []any{&key, &aggregation}, func() error {
			published[key] = aggregation
			return nil
		})
		return err
	})
	b.Queue(string(shared), int32(dayLocks), c.distinctDays)
	b.Queue(`
		UPDATE instances
		SET last_seq = $2, watermark = greatest(watermark, $3), seen_at = greatest(seen_at, clock_timestamp()), status = $4
		WHERE id = $1 AND last_seq = $2 - 1`,
		batch.ID.Instance, batch.ID.Seq, batch.Watermark, status).Exec(func(tag pgconn.CommandTag) error {
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
	return next, nil
}

// write inserts the batch and folds its rows into the records. It returns the
// records' values in the order of the batch.
func (c *columns) write(ctx context.Context, tx scoped, batch meter.Batch) ([]int64, error) {
	var stored []int64
	var b pgx.Batch
	b.Queue(`INSERT INTO usage_batches (instance_id, seq, watermark, row_count) VALUES ($1, $2, $3, $4)`,
		batch.ID.Instance, batch.ID.Seq, batch.Watermark, len(batch.Rows))
	b.Queue(`
		INSERT INTO usage_batch_rows (day, instance_id, seq, organization_id, meter, value, at)
		SELECT date '1970-01-01' + day, $1, $2, organization_id, meter, value, at
		FROM unnest($3::uuid[], $4::text[], $5::int4[], $6::int8[], $7::timestamptz[])
			AS r (organization_id, meter, day, value, at)`,
		batch.ID.Instance, batch.ID.Seq, c.organizations, c.meters, c.days, c.values, c.ats)
	b.Queue(upsertRecords, c.organizations, c.meters, c.days, c.values, c.ats, c.metersOf(plans.Sum), c.metersOf(plans.Max)).
		Query(func(rows pgx.Rows) (err error) {
			stored, err = c.collect(rows)
			return err
		})
	// Rows are locked in the order of days, as every writer does.
	b.Queue(`
		UPDATE usage_rollups SET stale = true
		WHERE day IN (
			SELECT day FROM usage_rollups
			WHERE day IN (SELECT date '1970-01-01' + d FROM unnest($1::int4[]) d) AND NOT stale
			ORDER BY day FOR NO KEY UPDATE)`, c.distinctDays)
	err := tx.SendBatch(ctx, &b).Close()
	return stored, err
}

// upsertRecords folds rows into the records by the aggregation of their meter. A
// sum stays at the largest bigint: an overflow must not hold up every later
// batch; the next rollup shows it as a variance. The later of two snapshots
// counts; of two with the same time, the one that is written later.
const upsertRecords = `
	INSERT INTO usage_daily AS u (organization_id, meter, day, value, last_at)
	SELECT organization_id, meter, date '1970-01-01' + day, value, at
	FROM unnest($1::uuid[], $2::text[], $3::int4[], $4::int8[], $5::timestamptz[])
		AS r (organization_id, meter, day, value, at)
	ON CONFLICT (organization_id, meter, day) DO UPDATE SET
		value = CASE
			WHEN u.meter = ANY ($6::text[]) THEN
				CASE WHEN u.value > 9223372036854775807 - excluded.value THEN 9223372036854775807 ELSE u.value + excluded.value END
			WHEN u.meter = ANY ($7::text[]) THEN greatest(u.value, excluded.value)
			WHEN excluded.last_at >= u.last_at THEN excluded.value
			ELSE u.value
		END,
		last_at = greatest(u.last_at, excluded.last_at)
	RETURNING value`

// collect reads one value a row, in the order in which the rows were sent, and
// returns them in the order of the batch.
func (c *columns) collect(rows pgx.Rows) ([]int64, error) {
	defer rows.Close()
	out := make([]int64, len(c.values))
	n := 0
	for ; rows.Next() && n < len(out); n++ {
		if err := rows.Scan(&out[c.placeOf(n)]); err != nil {
			return nil, err
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if n != len(out) {
		return nil, fmt.Errorf("the database answered %d rows for %d", n, len(out))
	}
	return out, nil
}
