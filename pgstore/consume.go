package pgstore

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// openKinds says which kinds of window may be open on the days of a batch.
type openKinds struct{ day, month bool }

// queue adds the statement that finds out. It comes after the records are written: who
// opens a window takes them first.
func (o *openKinds) queue(b *pgx.Batch, days []int32) {
	var months []int32
	for _, day := range days {
		months = append(months, int32(calendar.Day(day).Month()))
	}
	b.Queue(`
		SELECT
			EXISTS (SELECT FROM quota_window_rows WHERE limit_window = 'day'
				AND window_start = ANY (ARRAY(SELECT date '1970-01-01' + d FROM unnest($1::int4[]) d))),
			EXISTS (SELECT FROM quota_window_rows WHERE limit_window = 'month'
				AND window_start = ANY (ARRAY(SELECT date '1970-01-01' + d FROM unnest($2::int4[]) d)))`, days, months).
		QueryRow(func(row pgx.Row) error { return row.Scan(&o.day, &o.month) })
}

// quotaUse is what usage means for windows, as arrays in the order of their key.
type quotaUse struct {
	organizations [][16]byte
	meters        []string
	kinds         []string
	starts        []int32
	// values is all usage, leased the part of it that leases of this kind of window
	// covered.
	values, leased []int64
}

func (u *quotaUse) add(c *columns, i int, kind calendar.WindowKind, start int32) {
	value := c.values[i]
	var leased int64
	if c.leased != nil {
		leased = c.leased[i].Day
		if kind == calendar.WindowMonth {
			leased = c.leased[i].Month
		}
	}
	leased = min(leased, value)
	if n := len(u.starts) - 1; n >= 0 && u.starts[n] == start && u.kinds[n] == string(kind) &&
		u.meters[n] == c.meters[i] && u.organizations[n] == c.organizations[i] {
		u.values[n] = plans.AddUpTo(u.values[n], value)
		u.leased[n] = plans.AddUpTo(u.leased[n], leased)
		return
	}
	u.organizations = append(u.organizations, c.organizations[i])
	u.meters = append(u.meters, c.meters[i])
	u.kinds = append(u.kinds, string(kind))
	u.starts = append(u.starts, start)
	u.values = append(u.values, value)
	u.leased = append(u.leased, leased)
}

// part returns the windows from, inclusive, to, exclusive.
func (u *quotaUse) part(from, to int) *quotaUse {
	return &quotaUse{
		organizations: u.organizations[from:to], meters: u.meters[from:to], kinds: u.kinds[from:to],
		starts: u.starts[from:to], values: u.values[from:to], leased: u.leased[from:to],
	}
}

func (u *quotaUse) parts() []*quotaUse {
	var parts []*quotaUse
	for from := 0; from < len(u.starts); from += chunkRows {
		parts = append(parts, u.part(from, min(from+chunkRows, len(u.starts))))
	}
	return parts
}

// quotaUse collects the windows that the rows of sums fall into, in the order of
// organization, meter, kind and start.
func (c *columns) quotaUse(open openKinds) *quotaUse {
	u := &quotaUse{}
	for from := 0; from < len(c.values); {
		to := from + 1
		for to < len(c.values) && c.organizations[to] == c.organizations[from] && c.meters[to] == c.meters[from] {
			to++
		}
		if c.aggregations[c.meters[from]] == plans.Sum {
			for i := from; open.day && i < to; i++ {
				u.add(c, i, calendar.WindowDay, c.days[i])
			}
			for i := from; open.month && i < to; i++ {
				u.add(c, i, calendar.WindowMonth, int32(calendar.Day(c.days[i]).Month()))
			}
		}
		from = to
	}
	return u
}

// heldQuota is what a reservation holds of the windows whose usage is written.
type heldQuota struct {
	organization, reservation uuid.UUID
	meter                     string
	// held is what the reservation holds, used what is written.
	held, used int64
	// limit is the kind of window that has a hard limit by the plan in force, and max the
	// limit: what is used beyond what is held must be within it. Empty: there is none.
	limit calendar.WindowKind
	max   int64
	// consumed says that the windows have the usage already: it was quarantined.
	consumed bool
}

// consume takes usage out of the leases of the instance that flushed it, in the windows that are open, and
// notes the rest with them: what a reservation held, out of the windows themselves.
func (c *columns) consume(ctx context.Context, tx scoped, instance uuid.UUID, open openKinds, held *heldQuota) error {
	if !open.day && !open.month || held != nil && held.consumed {
		return nil
	}
	if held != nil && held.reservation != uuid.Nil {
		return held.consume(ctx, tx, calendar.Day(c.days[0]))
	}
	for _, part := range c.quotaUse(open).parts() {
		_, err := tx.Exec(ctx, consumeLeases, instance, part.organizations, part.meters, part.kinds, part.starts, part.values, part.leased)
		if err != nil {
			return err
		}
	}
	return nil
}

// consumeLeases changes no row but the instance's own leases, in the order in which its asks lock them. So
// flushes of different instances don't wait for each other here, whatever windows they share. Where there is
// no lease, all is unleased: spent carries what the instance takes to be leased, and means nothing in a
// row of no lease.
const consumeLeases = `
	INSERT INTO quota_leases AS l (organization_id, meter, limit_window, window_start, instance_id,
		generation, version, issued, granted, spent, adopted, awaited, unleased)
	SELECT w.organization_id, w.meter, w.limit_window, w.window_start, $1, 0, 0, 0, 0, u.leased, 0, 0, u.value
	FROM unnest($2::uuid[], $3::text[], $4::text[], $5::int4[], $6::int8[], $7::int8[])
		AS u (organization_id, meter, limit_window, start, value, leased)
	JOIN quota_window_rows w ON w.organization_id = u.organization_id AND w.meter = u.meter
		AND w.limit_window = u.limit_window AND w.window_start = date '1970-01-01' + u.start
	WHERE u.value > 0
	ORDER BY w.organization_id, w.meter COLLATE "C", w.limit_window, w.window_start
	ON CONFLICT (organization_id, meter, limit_window, window_start, instance_id) DO UPDATE SET
		granted = l.granted - least(l.granted, excluded.spent),
		consumed = l.consumed + least(l.granted, excluded.spent),
		unleased = l.unleased + excluded.unleased - least(l.granted, excluded.spent)`

// consume moves what a reservation held of the windows of its day to what is settled: less than that frees
// the rest, more takes what is missing. Where a window is the limit's and hasn't got the missing part, the
// answer is [meter.QuotaShortError]. The windows are locked first, in a statement of their own.
func (h *heldQuota) consume(ctx context.Context, tx scoped, day calendar.Day) error {
	rows, err := tx.Query(ctx, `
		SELECT limit_window, window_start FROM quota_window_rows
		WHERE organization_id = $1 AND meter = $2 AND window_start <= $3 AND window_end > $3
		ORDER BY limit_window FOR NO KEY UPDATE`, h.organization, h.meter, date(day))
	if err != nil {
		return err
	}
	windows, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
		Kind  calendar.WindowKind
		Start time.Time
	}])
	if err != nil {
		return err
	}
	for _, w := range windows {
		var hardMax *int64
		if w.Kind == h.limit && h.used > h.held {
			hardMax = &h.max
		}
		var quota meter.QuotaShortError
		var done bool
		err := tx.QueryRow(ctx, `SELECT * FROM tollgate_settle_held($1, $2, $3, $4, $5, $6, $7, $8)`,
			h.organization, h.meter, w.Kind, w.Start, h.reservation, h.held, h.used, hardMax).
			Scan(&done, &quota.Waiting, &quota.Max, &quota.Consumed, &quota.Unleased, &quota.Leased, &quota.Held, &quota.Current)
		if err != nil {
			return err
		}
		if !done {
			return &quota
		}
	}
	return nil
}
