package pgstore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/pgstore/internal/db"
)

// rollUp writes the rolled day. Rows that stay as they are are not written again: it
// returns how many rows the day has, and how many changed.
const rollUp = `
	WITH batch_rows AS NOT MATERIALIZED (SELECT * FROM usage_batch_rows WHERE day = $1::date),
	` + levelsBefore + foldDay + `,
	gone AS (
		DELETE FROM usage_rolled r
		WHERE r.day = $1::date
			AND NOT EXISTS (SELECT FROM fresh f WHERE f.organization_id = r.organization_id AND f.meter = r.meter)
		RETURNING 1
	),
	put AS (
		INSERT INTO usage_rolled AS r (organization_id, meter, day, value, carried, month_to_date, unit_seconds)
		SELECT f.organization_id, f.meter, $1::date, f.value, f.carried,
			CASE m.aggregation
				WHEN 'sum' THEN least(coalesce(before.month_to_date, 0)::numeric + f.value, 9223372036854775807)
				WHEN 'max' THEN greatest(before.month_to_date, f.value)
				ELSE f.value
			END::bigint,
			f.unit_seconds
		FROM fresh f
		JOIN meters m ON m.key = f.meter
		-- Most have a row of the rolled day before, which is read once, as a whole. Only the others are looked up one by
		-- one: that reads every day of theirs in the month.
		LEFT JOIN (
			SELECT p.organization_id, p.meter, p.month_to_date FROM usage_rolled p
			WHERE p.day = $2::date AND p.day >= date_trunc('month', $1::date::timestamp)::date
		) AS basis ON basis.organization_id = f.organization_id AND basis.meter = f.meter
		LEFT JOIN LATERAL (
			SELECT p.month_to_date FROM usage_rolled p
			WHERE basis.meter IS NULL AND m.aggregation <> 'last' AND p.organization_id = f.organization_id AND p.meter = f.meter
				AND $2::date > date_trunc('month', $1::date::timestamp)::date
				AND p.day >= date_trunc('month', $1::date::timestamp)::date AND p.day < $2::date
			ORDER BY p.day DESC LIMIT 1
		) AS earlier ON true
		CROSS JOIN LATERAL (SELECT coalesce(basis.month_to_date, earlier.month_to_date) AS month_to_date) AS before
		-- In the order of the primary key, and of the locks.
		ORDER BY f.organization_id, f.meter
		ON CONFLICT (organization_id, meter, day) DO UPDATE SET
			value = excluded.value, carried = excluded.carried,
			month_to_date = excluded.month_to_date, unit_seconds = excluded.unit_seconds
		WHERE (r.value, r.carried, r.month_to_date, r.unit_seconds)
			IS DISTINCT FROM (excluded.value, excluded.carried, excluded.month_to_date, excluded.unit_seconds)
		RETURNING 1
	)
	SELECT (SELECT count(*) FROM fresh), (SELECT count(*) FROM gone) + (SELECT count(*) FROM put)`

// maxVariances is how many variances of a day are kept one by one.
const maxVariances = 100

// variances compares the rolled day, which is what the batches add up to, with the
// records, and counts all that differ.
const variances = `
	SELECT organization_id, meter, coalesce(b.value, 0), coalesce(u.value, 0), count(*) OVER ()
	FROM (SELECT organization_id, meter, value FROM usage_rolled WHERE day = $1::date AND NOT carried) AS b
	FULL JOIN (SELECT organization_id, meter, value FROM usage_daily WHERE day = $1::date) AS u USING (organization_id, meter)
	WHERE b.value IS DISTINCT FROM u.value
	ORDER BY organization_id, meter
	LIMIT $2`

// RollUpDay closes a day: it folds the day's batch rows into the rolled day, in one
// transaction that shuts out flushes of that day's usage, checks that the rolled
// day equals the records, and records which batches it includes. The caller makes
// sure that the day has ended and that instances have flushed it.
//
// It may run any number of times: each run counts a revision and takes in what
// came since. Snapshots are levels that hold until the next report (also over days
// without one, whose level is carried), so a day continues the rolled day before
// it; when that one changes, [Store.DaysToRollUp] names this one again.
//
// A day whose batch rows were dropped stays as it is: it is [billing.ErrRowsDropped].
func (s *Store) RollUpDay(ctx context.Context, day calendar.Day) (billing.DayRollup, error) {
	var rollup billing.DayRollup
	err := s.asPlatformFolding(ctx, func(ctx context.Context, tx scoped) error {
		rollup = billing.DayRollup{Day: day}
		if err := lockDays(ctx, tx, exclusive, []int32{int32(day)}); err != nil {
			return err
		}
		if kept, err := rowsFrom(ctx, tx); err != nil || day < kept {
			return cmp.Or(err, billing.ErrRowsDropped)
		}
		if err := planToFold(ctx, tx); err != nil {
			return err
		}
		put := db.PutRollupParams{Day: date(day)}
		// Read before the rows that it stands for: should the day before be rolled up
		// again meanwhile, this one is outdated and not taken for newer than it is.
		previous, err := tx.PreviousRollup(ctx, date(day))
		if err == nil {
			put.BasisDay, put.BasisRevision = &previous.Day, &previous.ContentRevision
		} else if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		var changed int64
		if err := tx.QueryRow(ctx, rollUp, date(day), put.BasisDay, day.Start(), day.End()).Scan(&rollup.Rows, &changed); err != nil {
			return err
		}
		if err := readVariances(ctx, tx, &rollup); err != nil {
			return err
		}
		if rollup.Batches, err = tx.CountBatches(ctx, date(day)); err != nil {
			return err
		}
		put.Batches, put.RowCount, put.VarianceCount = rollup.Batches, rollup.Rows, rollup.VarianceCount
		put.Changed = changed > 0
		put.Variances = []byte("[]")
		if len(rollup.Variances) > 0 {
			if put.Variances, err = json.Marshal(rollup.Variances); err != nil {
				return err
			}
		}
		revision, err := tx.PutRollup(ctx, put)
		if err != nil {
			return err
		}
		rollup.Revision = int(revision)
		if err := tx.DeleteRollupBatches(ctx, date(day)); err != nil {
			return err
		}
		return tx.PutRollupBatches(ctx, date(day))
	})
	return rollup, wrap(err, "roll up %s", day)
}

func readVariances(ctx context.Context, tx scoped, rollup *billing.DayRollup) error {
	rows, err := tx.Query(ctx, variances, date(rollup.Day), maxVariances)
	if err != nil {
		return err
	}
	var organization uuid.UUID
	var meterKey string
	var batches, records int64
	_, err = pgx.ForEachRow(rows, []any{&organization, &meterKey, &batches, &records, &rollup.VarianceCount}, func() error {
		rollup.Variances = append(rollup.Variances, billing.Variance{
			Organization: organization, Meter: meterKey, Day: rollup.Day, Batches: batches, Records: records,
		})
		return nil
	})
	return err
}

// DaysToRollUp returns, in order, the days from from to to, both included, that need
// a rollup: those without one, from the first day that has usage on; those that usage
// came to after their rollup; and all after such a day, because they continue it.
func (s *Store) DaysToRollUp(ctx context.Context, from, to calendar.Day) ([]calendar.Day, error) {
	var days []calendar.Day
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		state, err := readRollups(ctx, tx, from, to)
		if err != nil || state.empty() {
			return err
		}
		for day := state.fresh() + 1; day <= to; day++ {
			days = append(days, day)
		}
		return nil
	})
	return days, wrap(err, "look for days to roll up from %s to %s", from, to)
}

// rollups says which days of a range are rolled up and up to date.
type rollups struct {
	// from is the first day of the range that may have usage; beyond to where none may.
	from, to calendar.Day
	// days has every rolled day of the range, also before from.
	days []db.RollupsRow
}

func readRollups(ctx context.Context, tx scoped, from, to calendar.Day) (rollups, error) {
	state := rollups{from: from, to: to}
	first, err := firstDay(ctx, tx)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		state.from = to + 1
	case err != nil:
		return state, err
	default:
		state.from = max(from, first)
	}
	state.days, err = tx.Rollups(ctx, date(from), date(to))
	return state, err
}

// firstDay returns the first day that may be rolled up: that of the first usage, or the first whose batch rows are kept,
// as levels may go on from before it. It is [pgx.ErrNoRows] where there never was any usage.
func firstDay(ctx context.Context, tx scoped) (calendar.Day, error) {
	kept, err := rowsFrom(ctx, tx)
	if err != nil || kept > never {
		return kept, err
	}
	first, err := tx.FirstUsageDay(ctx)
	return calendar.DayOf(first), err
}

// empty reports whether no day of the range can have usage.
func (r rollups) empty() bool { return r.from > r.to }

// fresh returns the last day before which, from the start of the range on, every day
// is rolled up and up to date; the day before the range where the first one isn't.
func (r rollups) fresh() calendar.Day {
	last := r.from - 1
	for _, known := range r.days {
		if calendar.DayOf(known.Day) < r.from {
			continue
		}
		if known.Outdated || calendar.DayOf(known.Day) != last+1 {
			break
		}
		last++
	}
	return last
}

// upTo returns the rolled days up to a day, with what tells their contents apart.
func (r rollups) upTo(day calendar.Day) (days []time.Time, revisions []int32) {
	for _, known := range r.days {
		if calendar.DayOf(known.Day) <= day {
			days = append(days, known.Day)
			revisions = append(revisions, known.ContentRevision)
		}
	}
	return days, revisions
}
