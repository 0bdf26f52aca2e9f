package pgstore

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/pgstore/internal/db"
)

// freezeAttempts is how often a freeze begins again because a day was rolled up
// while it ran.
const freezeAttempts = 5

// errRolledMeanwhile says that rolled days changed between the two steps of a freeze.
var errRolledMeanwhile = errors.New("days of the period are being rolled up")

// FreezeExport decides, once, what usage an export includes, and returns the last
// included batch of each instance. What is flushed later doesn't change it; called
// again, it returns the same. An export that doesn't exist is
// [billing.ErrExportNotFound], one that has ended without a freeze
// [billing.ErrExportEnded].
//
// The first step shuts out flushes of the period's days for a moment, and records the
// batch marks. The second adds up the usage up to the marks, with nobody shut out:
// from the rolled days while they are up to date, and from there on from batch
// rows. It keeps the totals, with the names, plans and meters of this time.
func (s *Store) FreezeExport(ctx context.Context, id uuid.UUID) ([]billing.BatchMark, error) {
	var marks []billing.BatchMark
	var err error
	for range freezeAttempts {
		marks, err = s.freezeOnce(ctx, id)
		if !errors.Is(err, errRolledMeanwhile) {
			break
		}
	}
	return marks, wrap(err, "freeze export %s", id)
}

func (s *Store) freezeOnce(ctx context.Context, id uuid.UUID) ([]billing.BatchMark, error) {
	var f *freeze
	err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) (err error) {
		f, err = markBatches(ctx, tx, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	if f != nil {
		err = s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) error { return f.addUp(ctx, tx) })
		if err != nil {
			return nil, err
		}
	}
	var marks []billing.BatchMark
	err = s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.ExportBatches(ctx, id)
		marks = convert(rows, func(r db.ExportBatchesRow) billing.BatchMark {
			return billing.BatchMark{Instance: r.InstanceID, Through: r.ThroughSeq}
		})
		return err
	})
	return marks, err
}

// freeze is what the first step of a freeze hands to the second.
type freeze struct {
	export db.Export
	// from and to are the days that are counted; none where to is before from.
	from, to calendar.Day
	// rolled is the last day that is taken from rolled days, the day before from
	// where none is.
	rolled calendar.Day
	state  rollups
}

// markBatches is the first step. It returns nil where the export is frozen already.
func markBatches(ctx context.Context, tx scoped, id uuid.UUID) (*freeze, error) {
	export, err := lockOpenExport(ctx, tx, id)
	if err != nil || export.FrozenAt != nil {
		return nil, err
	}
	f := &freeze{export: export}
	f.from, f.to = countedDays(export)
	if kept, err := rowsFrom(ctx, tx); err != nil || f.from < kept {
		return nil, cmp.Or(err, billing.ErrRowsDropped)
	}
	if err := lockDays(ctx, tx, exclusive, daysBetween(f.from, f.to)); err != nil {
		return nil, err
	}
	if f.state, err = readRollups(ctx, tx, f.from, f.to); err != nil {
		return nil, err
	}
	f.rolled = min(f.state.fresh(), f.to)
	if err := tx.DeleteExportBatches(ctx, id); err != nil {
		return nil, err
	}
	err = tx.PutExportBatches(ctx, db.PutExportBatchesParams{
		ExportID:   id,
		RolledFrom: date(f.from),
		RolledTo:   date(f.rolled),
		OpenFrom:   date(f.rolled + 1),
		OpenTo:     date(f.to),
	})
	if err != nil {
		return nil, err
	}
	var through *time.Time
	if f.rolled >= f.from {
		day := date(f.rolled)
		through = &day
	}
	return f, tx.SetRolledThrough(ctx, id, through)
}

// lockOpenExport locks an export that is frozen or may still be.
func lockOpenExport(ctx context.Context, tx scoped, id uuid.UUID) (db.Export, error) {
	export, err := tx.LockExport(ctx, id)
	if err != nil {
		return export, orNotFound(err, billing.ErrExportNotFound, id)
	}
	if export.FrozenAt == nil && billing.Stage(export.Stage).Ended() {
		return export, billing.ErrExportEnded
	}
	return export, nil
}

// addUp is the second step.
func (f *freeze) addUp(ctx context.Context, tx scoped) error {
	export, err := lockOpenExport(ctx, tx, f.export.ID)
	if err != nil || export.FrozenAt != nil {
		return err
	}
	if err := planToFold(ctx, tx); err != nil {
		return err
	}
	if err := f.holdRolledDays(ctx, tx); err != nil {
		return err
	}
	id := f.export.ID
	if err := tx.PutExportMeters(ctx, id); err != nil {
		return err
	}
	if f.rolled >= f.from {
		_, err = tx.Exec(ctx, addRolledDays, id, date(f.from), date(f.rolled))
	} else if f.to >= f.from {
		err = f.addOpeningLevels(ctx, tx)
	}
	if err != nil {
		return err
	}
	for day := f.rolled + 1; day <= f.to; day++ {
		until := f.export.Cut
		if day.End().Before(until) {
			until = day.End()
		}
		if _, err := tx.Exec(ctx, addBatchRows, date(day), id, day.Start(), until); err != nil {
			return err
		}
	}
	if err := freezeRating(ctx, tx, f.export); err != nil {
		return err
	}
	return tx.SetFrozen(ctx, id)
}

// holdRolledDays keeps the rolled days from being rolled up again, and makes sure
// that they were not since the marks were recorded.
func (f *freeze) holdRolledDays(ctx context.Context, tx scoped) error {
	if err := lockDays(ctx, tx, shared, daysBetween(f.from, f.rolled)); err != nil {
		return err
	}
	days, revisions := f.state.upTo(f.rolled)
	// A day that had no rollup may have one now: the first usage at all, or late usage
	// of a day before the first.
	var changed int
	err := tx.QueryRow(ctx, `
		SELECT count(*)
		FROM (SELECT day, content_revision FROM usage_rollups WHERE day BETWEEN $3::date AND $4::date) r
		FULL JOIN unnest($1::date[], $2::int4[]) AS k (day, revision) ON k.day = r.day AND k.revision = r.content_revision
		WHERE r.day IS NULL OR k.day IS NULL`,
		days, revisions, date(f.from), date(f.rolled)).Scan(&changed)
	if err == nil && changed > 0 {
		return errRolledMeanwhile
	}
	return err
}

// addOpeningLevels starts the totals with the levels at the start of the period.
func (f *freeze) addOpeningLevels(ctx context.Context, tx scoped) error {
	var basis *time.Time
	previous, err := tx.PreviousRollup(ctx, date(f.from))
	if err == nil {
		basis = &previous.Day
	} else if !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	_, err = tx.Exec(ctx, addOpeningLevels, date(f.from), basis, f.export.ID)
	return err
}

// countedDays returns the days of an export, both included: those of the period up to
// the cut. There are none where the second is before the first.
func countedDays(export db.Export) (from, to calendar.Day) {
	period := calendar.PeriodOf(export.Period)
	// The cut itself is not included.
	return period.FirstDay(), min(period.LastDay(), calendar.DayOf(export.Cut.Add(-time.Microsecond)))
}

func daysBetween(from, to calendar.Day) []int32 {
	days := []int32{}
	for day := from; day <= to; day++ {
		days = append(days, int32(day))
	}
	return days
}

// addRolledDays starts the totals of an export ($1) with the rolled days from $2 to $3. A
// month's sum is at most [plans.MaxMonthSum].
const addRolledDays = `
	INSERT INTO export_usage (export_id, organization_id, meter, value, unit_seconds)
	SELECT $1::uuid, r.organization_id, r.meter,
		CASE m.aggregation WHEN 'sum' THEN sum(r.value) ELSE max(r.value) END::bigint, NULL
	FROM usage_rolled r
	JOIN meters m ON m.key = r.meter AND m.aggregation <> 'last'
	WHERE r.day BETWEEN $2::date AND $3::date
	GROUP BY r.organization_id, r.meter, m.aggregation
	UNION ALL
	SELECT $1::uuid, r.organization_id, r.meter, (array_agg(r.value ORDER BY r.day DESC))[1], sum(r.unit_seconds)
	FROM usage_rolled r
	JOIN meters m ON m.key = r.meter AND m.aggregation = 'last'
	WHERE r.day BETWEEN $2::date AND $3::date
	GROUP BY r.organization_id, r.meter`

// addOpeningLevels starts the totals of an export ($3) with the levels of snapshots
// before the day $1, of which the last rolled one is $2.
const addOpeningLevels = `
	WITH ` + levelsBefore + `
	INSERT INTO export_usage (export_id, organization_id, meter, value, unit_seconds)
	SELECT $3::uuid, organization_id, meter, value, 0 FROM opening WHERE value > 0`

// addBatchRows adds a day's batch rows, up to the marks, to the totals of an export
// ($2). The levels at the start of the day are the totals so far.
const addBatchRows = `
	WITH batch_rows AS NOT MATERIALIZED (
		SELECT r.* FROM usage_batch_rows r
		JOIN export_batches b ON b.export_id = $2::uuid AND b.instance_id = r.instance_id AND r.seq <= b.through_seq
		WHERE r.day = $1::date
	),
	opening AS (
		SELECT e.organization_id, e.meter, e.value
		FROM export_usage e
		JOIN meters m ON m.key = e.meter AND m.aggregation = 'last'
		WHERE e.export_id = $2::uuid
	)` + foldDay + `
	INSERT INTO export_usage AS total (export_id, organization_id, meter, value, unit_seconds)
	SELECT $2::uuid, f.organization_id, f.meter,
		CASE m.aggregation
			WHEN 'sum' THEN coalesce(e.value, 0) + f.value
			WHEN 'max' THEN greatest(e.value, f.value)
			ELSE f.value
		END::bigint,
		coalesce(e.unit_seconds, 0) + f.unit_seconds
	FROM fresh f
	JOIN meters m ON m.key = f.meter
	LEFT JOIN export_usage e ON e.export_id = $2::uuid AND e.organization_id = f.organization_id AND e.meter = f.meter
	ON CONFLICT (export_id, organization_id, meter) DO UPDATE SET
		value = excluded.value, unit_seconds = excluded.unit_seconds`
