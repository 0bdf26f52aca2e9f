package pgstore

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// errDiffers says that a batch has more than the one that was applied under its identity.
var errDiffers = errors.New("another batch was applied under this one's identity: this is what it has beyond that")

// compareApplied holds a batch to the one that was applied under its identity. One that
// differs is kept whole in usage_batch_conflicts, once, and what it has beyond the other is set
// aside for people to decide on.
func compareApplied(ctx context.Context, tx scoped, batch meter.Batch, rows []meter.Row) (differs bool, err error) {
	var digest []byte
	var reports int64
	var journalled *int64
	err = tx.QueryRow(ctx, `SELECT digest, reports, journalled FROM usage_batches WHERE instance_id = $1 AND seq = $2`,
		batch.ID.Instance, batch.ID.Seq).Scan(&digest, &reports, &journalled)
	if err != nil {
		return false, err
	}
	switch {
	case digest == nil && len(rows) == 0:
		// Of a batch that was missing nothing turns up.
		return false, nil
	case digest != nil && batch.SameAs(meter.BatchDigest(digest), reports, journalled):
		return false, nil
	}
	return true, keepDiffering(ctx, tx, batch, rows, reports)
}

// keepDiffering keeps a batch that differs from the applied one, unless it is kept already.
func keepDiffering(ctx context.Context, tx scoped, batch meter.Batch, rows []meter.Row, reports int64) error {
	if _, err := tx.Exec(ctx, `SELECT FROM instances WHERE id = $1 FOR NO KEY UPDATE`, batch.ID.Instance); err != nil {
		return err
	}
	digest := batch.Digest()
	var kept bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM usage_batch_conflicts WHERE instance_id = $1 AND seq = $2 AND digest = $3)`,
		batch.ID.Instance, batch.ID.Seq, digest[:]).Scan(&kept)
	if err != nil || kept {
		return err
	}
	beyond, err := beyondApplied(ctx, tx, batch.ID, rows)
	if err != nil {
		return err
	}
	if err := (&sorting{batch: batch}).consumeAside(ctx, tx, beyond); err != nil {
		return err
	}
	content, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	var b pgx.Batch
	for i := range beyond {
		if err := beyond[i].queue(&b, batch.ID); err != nil {
			return err
		}
	}
	b.Queue(`UPDATE usage_batches SET quarantined = quarantined + $3 WHERE instance_id = $1 AND seq = $2`, batch.ID.Instance, batch.ID.Seq, len(beyond))
	b.Queue(`
		INSERT INTO usage_batch_conflicts (instance_id, seq, digest, reports, journalled, applied_reports, set_aside, content)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		batch.ID.Instance, batch.ID.Seq, digest[:], batch.Reports, batch.Journalled, reports, len(beyond), content)
	return tx.SendBatch(ctx, &b).Close()
}

// beyondApplied is what rows have beyond those that were applied under the same identity: of
// sums the difference, of peaks and levels those that are others, and the identified reports that
// nobody has counted.
func beyondApplied(ctx context.Context, tx scoped, id meter.BatchID, rows []meter.Row) ([]asideRow, error) {
	applied, err := appliedRows(ctx, tx, id, rows)
	if err != nil {
		return nil, err
	}
	fresh := identifiedOf(rows)
	if err := fresh.refuseCounted(ctx, tx, id); err != nil {
		return nil, err
	}
	err = within(ctx, tx, func(ctx context.Context, tx scoped) error { return fresh.count(ctx, tx, id, fresh.places) })
	if refusedForGood(err) {
		// They are in the batch that is kept.
		for _, place := range fresh.places {
			fresh.refuse(place)
		}
	} else if err != nil {
		return nil, err
	}
	var out []asideRow
	for i := range rows {
		row := rows[i]
		was, there := applied[i].value, applied[i].there
		switch {
		case row.IdentifiedOnly, there && row.Aggregation == plans.Max && row.Value <= was, there && row.Aggregation == plans.Last && row.Value == was:
		case row.Aggregation == plans.Max || row.Aggregation == plans.Last:
			out = append(out, asideRow{place: meter.BatchPlace{Row: i, Report: meter.WholeRow}, row: row, why: errDiffers})
		case row.Value > was:
			row.Value -= was
			row.Leased = meter.Leased{Day: min(row.Leased.Day, row.Value), Month: min(row.Leased.Month, row.Value)}
			out = append(out, asideRow{place: meter.BatchPlace{Row: i, Report: meter.WholeRow}, row: row, why: errDiffers})
		}
		for n := range rows[i].Identified {
			place := meter.BatchPlace{Row: i, Report: n}
			if fresh.isRefused(place) {
				continue
			}
			e, one := rows[i].Identified[n], rows[i]
			one.Value, one.At, one.Leased = e.Quantity, e.At, e.Leased
			out = append(out, asideRow{place: place, row: one, identified: &e, reports: 1, why: errDiffers})
		}
	}
	return out, nil
}

// appliedRow is what was applied, or set aside, of a row without its identified reports.
type appliedRow struct {
	value int64
	there bool
}

func appliedRows(ctx context.Context, tx scoped, id meter.BatchID, rows []meter.Row) ([]appliedRow, error) {
	type key struct {
		organization uuid.UUID
		meter        string
		day          int32
		plan         string
		version      int
	}
	found := map[key]int64{}
	query, err := tx.Query(ctx, `
		SELECT organization_id, meter, day - date '1970-01-01', plan, plan_version, value FROM usage_batch_rows
		WHERE day IN (SELECT date '1970-01-01' + d FROM unnest($3::int4[]) d) AND instance_id = $1 AND seq = $2
		UNION ALL
		SELECT organization_id, meter, day - date '1970-01-01', plan, plan_version, value FROM usage_quarantine
		WHERE instance_id = $1 AND seq = $2`, id.Instance, id.Seq, daysOf(rows))
	if err != nil {
		return nil, err
	}
	var k key
	var value int64
	_, err = pgx.ForEachRow(query, []any{&k.organization, &k.meter, &k.day, &k.plan, &k.version, &value}, func() error {
		found[k] += value
		return nil
	})
	if err != nil {
		return nil, err
	}
	own, err := countedBy(ctx, tx, id, rows)
	if err != nil {
		return nil, err
	}
	out := make([]appliedRow, len(rows))
	for i := range rows {
		r := &rows[i]
		value, there := found[key{r.Organization, r.Meter, int32(r.Day), r.Plan, r.PlanVersion}]
		out[i] = appliedRow{max(0, value-own[i]), there}
	}
	return out, nil
}

// countedBy adds up, for each row, those of its identified reports that a batch has counted.
func countedBy(ctx context.Context, tx scoped, id meter.BatchID, rows []meter.Row) ([]int64, error) {
	sums := make([]int64, len(rows))
	all := identifiedOf(rows)
	for chunk := range slices.Chunk(all.places, chunkRows) {
		counted, err := all.counted(ctx, tx, id, chunk)
		if err != nil {
			return nil, err
		}
		for i, place := range chunk {
			if counted[i] {
				sums[place.Row] += all.at(place).Quantity
			}
		}
	}
	return sums, nil
}

// CountBatchConflicts returns how many batches differ from the one that was applied under their
// identity, of all instances.
func (s *Store) CountBatchConflicts(ctx context.Context) (int64, error) {
	return s.count(ctx, batchConflicts, "batches that differ")
}
