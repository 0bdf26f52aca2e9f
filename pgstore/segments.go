package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/pgstore/internal/db"
)

// correctionPeriods is how many periods before an export's own are looked at for usage
// that came after their close. Usage may be 35 days late, and a journal longer.
const correctionPeriods = 3

// freezeRating records, as a part of a freeze, what rating needs beside the totals: what
// closed periods have to be corrected by, whose statements are made, plans over time, usage
// by plan where that changed, and credits. The transaction avoids nested loops.
func freezeRating(ctx context.Context, tx scoped, export db.Export) error {
	// Nothing is issued meanwhile: an export that is issued later finds its corrections and credits changed.
	if err := tx.LockIssuing(ctx); err != nil {
		return err
	}
	if err := freezeCorrections(ctx, tx, export); err != nil {
		return err
	}
	start := calendar.PeriodOf(export.Period).Start()
	if err := tx.PutExportOrganizations(ctx, export.ID, start, export.Cut); err != nil {
		return fmt.Errorf("organizations: %w", err)
	}
	if err := tx.PutSegments(ctx, export.ID, start, export.Cut); err != nil {
		return fmt.Errorf("segments: %w", err)
	}
	if err := addSegmentUsage(ctx, tx, export.ID, export, "export_batches", severalSegments); err != nil {
		return fmt.Errorf("usage by segment: %w", err)
	}
	if _, err := freezeCredits(ctx, tx, export); err != nil {
		return fmt.Errorf("credits: %w", err)
	}
	return nil
}

// freezeCorrections records which organizations used something in closed periods that
// these don't include, and what they used by segment.
func freezeCorrections(ctx context.Context, tx scoped, export db.Export) error {
	start := calendar.PeriodOf(export.Period).Start()
	from := start.AddDate(0, -correctionPeriods, 0)
	// The month is for clocks that differ.
	if err := tx.PutCorrectionMarks(ctx, export.ID, from.AddDate(0, -1, 0)); err != nil {
		return fmt.Errorf("marks of corrections: %w", err)
	}
	closed, err := tx.ClosedExports(ctx, from, start)
	if err != nil {
		return err
	}
	kept, err := rowsFrom(ctx, tx)
	if err != nil {
		return err
	}
	for _, c := range closed {
		first, last := countedDays(c)
		if first < kept {
			return fmt.Errorf("corrections of %s: %w", calendar.PeriodOf(c.Period), billing.ErrRowsDropped)
		}
		err := tx.PutCorrections(ctx, db.PutCorrectionsParams{ExportID: export.ID, CorrectedID: c.ID, FromDay: date(first), ToDay: date(last)})
		if err == nil {
			err = tx.PutSegmentsOfLateOrganizations(ctx, db.PutSegmentsOfLateOrganizationsParams{
				ExportID: export.ID, CorrectedID: c.ID, PeriodStart: first.Start(), Cut: c.Cut,
			})
		}
		if err == nil {
			err = addSegmentUsage(ctx, tx, export.ID, c, "export_correction_batches", corrected)
		}
		if err != nil {
			return fmt.Errorf("corrections of %s: %w", calendar.PeriodOf(c.Period), err)
		}
	}
	return nil
}

// Which organizations' usage is taken apart by segment; $4 is the export, $5 the one whose
// segments count.
const (
	severalSegments = `
		SELECT organization_id FROM export_segments WHERE export_id = $4::uuid AND export_id = $5::uuid
		GROUP BY organization_id HAVING count(*) > 1`
	corrected = `SELECT organization_id FROM export_corrections WHERE export_id = $4::uuid AND corrected_id = $5::uuid`
)

// addSegmentUsage adds to export id the usage of the organizations, up to the marks, by
// the segments of an export.
func addSegmentUsage(ctx context.Context, tx scoped, id uuid.UUID, of db.Export, marks, organizations string) error {
	from, to := countedDays(of)
	var basis *time.Time
	previous, err := tx.PreviousRollup(ctx, date(from))
	if err == nil {
		basis = &previous.Day
	} else if !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	var wanted bool
	err = tx.QueryRow(ctx, `
		SELECT EXISTS (`+organizations+`) AND $1::date IS NOT NULL AND coalesce($2::date, $3::date) IS NOT NULL`,
		date(from), basis, date(to), id, of.ID).Scan(&wanted)
	if err != nil || !wanted {
		return err
	}
	statement := fmt.Sprintf(segmentUsage, organizations, marks)
	_, err = tx.Exec(ctx, statement, date(from), basis, date(to), id, of.ID, from.Start(), of.Cut)
	return err
}

// segmentUsage folds batch rows of the days $1 to $3 by segment, for export $4 and the
// segments of $5, from $6 to $7; $2 is the rolled day that $1 continues. The first %s
// selects the organizations, the second names the table of batch marks.
//
// A sum or a peak belongs to the plan version that its row names: to the last such segment
// that begins at or before the row's time, or else the first. Where there is none, as it
// names none or one of another month, it belongs to the segment in which its time lies.
// Levels of snapshots hold as in foldDay, over changes of plan: one of zero is not carried,
// and one after the cut is the last level, though it never held.
const segmentUsage = `
	WITH ` + levelsBefore + `,
	wanted AS MATERIALIZED (%s),
	segments AS MATERIALIZED (
		SELECT s.organization_id, s.start_at, s.end_at, s.plan, s.plan_version,
			row_number() OVER following = 1 AS is_first, lead(false, 1, true) OVER following AS is_last
		FROM export_segments s
		WHERE s.export_id = $5::uuid AND s.organization_id IN (SELECT organization_id FROM wanted)
		WINDOW following AS (PARTITION BY s.organization_id ORDER BY s.start_at)
	),
	named AS MATERIALIZED (
		SELECT organization_id, plan, plan_version, start_at,
			CASE row_number() OVER same WHEN 1 THEN '-infinity' ELSE start_at END AS from_at,
			lead(start_at, 1, 'infinity') OVER same AS until_at
		FROM segments
		WHERE plan <> ''
		WINDOW same AS (PARTITION BY organization_id, plan, plan_version ORDER BY start_at)
	),
	batch_rows AS MATERIALIZED (
		SELECT r.organization_id, r.meter, r.day, r.plan, r.plan_version, r.value, r.seq, r.instance_id, m.aggregation, r.at,
			greatest($6::timestamptz, least(r.at, $7::timestamptz)) AS holds_from
		FROM usage_batch_rows r
		JOIN %s b ON b.export_id = $4::uuid AND b.instance_id = r.instance_id AND r.seq <= b.through_seq
		JOIN meters m ON m.key = r.meter
		WHERE r.day BETWEEN $1::date AND $3::date AND r.organization_id IN (SELECT organization_id FROM wanted)
	),
	placed AS (
		SELECT r.organization_id, coalesce(n.start_at, s.start_at) AS start_at, r.meter, r.aggregation, r.value
		FROM batch_rows r
		LEFT JOIN named n ON n.organization_id = r.organization_id AND n.plan = r.plan AND n.plan_version = r.plan_version
			AND r.at >= n.from_at AND r.at < n.until_at
		LEFT JOIN segments s ON n.start_at IS NULL AND s.organization_id = r.organization_id
			AND (s.is_first OR r.at >= s.start_at) AND (s.is_last OR r.at < s.end_at)
		WHERE r.aggregation <> 'last'
	),
	counted AS (
		SELECT organization_id, start_at, meter,
			CASE aggregation WHEN 'sum' THEN sum(value) ELSE max(value) END::bigint AS value
		FROM placed
		GROUP BY organization_id, start_at, meter, aggregation
	),
	points AS (
		SELECT o.organization_id, o.meter, o.value, $6::timestamptz AS holds_from, 0::bigint AS place
		FROM opening o WHERE o.value > 0 AND o.organization_id IN (SELECT organization_id FROM wanted)
		UNION ALL
		SELECT r.organization_id, r.meter, r.value, r.holds_from, row_number() OVER (
			PARTITION BY r.organization_id, r.meter
			ORDER BY r.at, coalesce(u.last_at = r.at AND u.value = r.value, false), r.seq, r.instance_id, r.plan COLLATE "C", r.plan_version)
		FROM batch_rows r
		LEFT JOIN usage_daily u ON u.organization_id = r.organization_id AND u.meter = r.meter AND u.day = r.day
		WHERE r.aggregation = 'last'
	),
	held AS (
		SELECT organization_id, meter, value, place, holds_from,
			lead(holds_from, 1, $7::timestamptz) OVER (PARTITION BY organization_id, meter ORDER BY place) AS holds_until
		FROM points
	),
	levels AS (
		SELECT h.organization_id, s.start_at, h.meter, (array_agg(h.value ORDER BY h.place DESC))[1] AS value,
			sum(h.value * extract(epoch FROM least(h.holds_until, s.end_at) - greatest(h.holds_from, s.start_at))) AS unit_seconds
		FROM held h
		JOIN segments s ON s.organization_id = h.organization_id AND (h.holds_from < s.end_at OR s.is_last) AND h.holds_until > s.start_at
		GROUP BY h.organization_id, s.start_at, h.meter
	)
	INSERT INTO export_segment_usage (export_id, segments_of, organization_id, start_at, meter, value, unit_seconds)
	SELECT $4::uuid, $5::uuid, organization_id, start_at, meter, value, NULL FROM counted
	UNION ALL
	SELECT $4::uuid, $5::uuid, organization_id, start_at, meter, value, unit_seconds FROM levels`
