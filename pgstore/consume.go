package pgstore

import (
	"context"

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
			EXISTS (SELECT FROM quota_windows WHERE limit_window = 'day'
				AND window_start = ANY (ARRAY(SELECT date '1970-01-01' + d FROM unnest($1::int4[]) d))),
			EXISTS (SELECT FROM quota_windows WHERE limit_window = 'month'
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

func (u *quotaUse) take(from *quotaUse, i int) {
	u.organizations = append(u.organizations, from.organizations[i])
	u.meters = append(u.meters, from.meters[i])
	u.kinds = append(u.kinds, from.kinds[i])
	u.starts = append(u.starts, from.starts[i])
	u.values = append(u.values, from.values[i])
	u.leased = append(u.leased, from.leased[i])
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

// consume moves usage that leases covered from leased to consumed, in the windows that
// are open, and adds the rest to what is unleased. The windows are locked first, in a
// statement of their own.
func (c *columns) consume(ctx context.Context, tx scoped, instance uuid.UUID, open openKinds, held *heldQuota) error {
	if !open.day && !open.month || held != nil && held.consumed {
		return nil
	}
	all, found := c.quotaUse(open), &quotaUse{}
	for _, part := range all.parts() {
		if err := part.lock(ctx, tx, found); err != nil {
			return err
		}
	}
	if held != nil && held.reservation != uuid.Nil {
		for i := range found.starts {
			if err := held.consume(ctx, tx, calendar.WindowKind(found.kinds[i]), calendar.Day(found.starts[i])); err != nil {
				return err
			}
			found.values[i] = 0
		}
	}
	for _, part := range found.parts() {
		if _, err := tx.Exec(ctx, consumeLeases, instance, part.organizations, part.meters, part.kinds, part.starts, part.values, part.leased); err != nil {
			return err
		}
	}
	return nil
}

// lock locks the windows that are there, and adds them to found.
func (u *quotaUse) lock(ctx context.Context, tx scoped, found *quotaUse) error {
	rows, err := tx.Query(ctx, `
		SELECT u.place
		FROM unnest($1::uuid[], $2::text[], $3::text[], $4::int4[])
			WITH ORDINALITY AS u (organization_id, meter, limit_window, start, place)
		JOIN quota_windows w ON w.organization_id = u.organization_id AND w.meter = u.meter
			AND w.limit_window = u.limit_window AND w.window_start = date '1970-01-01' + u.start
		ORDER BY w.organization_id, w.meter COLLATE "C", w.limit_window, w.window_start
		FOR NO KEY UPDATE OF w`, u.organizations, u.meters, u.kinds, u.starts)
	if err != nil {
		return err
	}
	var place int64
	_, err = pgx.ForEachRow(rows, []any{&place}, func() error {
		found.take(u, int(place)-1)
		return nil
	})
	return err
}

// consumeLeases moves usage of locked windows to consumed. Who changes a lease has locked its
// window, so leases need no lock of their own.
const consumeLeases = `
	WITH used AS (
		SELECT u.organization_id, u.meter, u.limit_window, date '1970-01-01' + u.start AS window_start, u.value,
			least(u.leased, coalesce(l.granted, 0)) AS consuming
		FROM unnest($2::uuid[], $3::text[], $4::text[], $5::int4[], $6::int8[], $7::int8[])
			AS u (organization_id, meter, limit_window, start, value, leased)
		LEFT JOIN quota_leases l ON l.organization_id = u.organization_id AND l.meter = u.meter
			AND l.limit_window = u.limit_window AND l.window_start = date '1970-01-01' + u.start AND l.instance_id = $1
		WHERE u.value > 0
	), spent AS (
		UPDATE quota_leases l SET granted = l.granted - u.consuming
		FROM used u
		WHERE l.organization_id = u.organization_id AND l.meter = u.meter AND l.limit_window = u.limit_window
			AND l.window_start = u.window_start AND l.instance_id = $1 AND u.consuming > 0
	)
	UPDATE quota_windows w
	SET leased = w.leased - u.consuming, consumed = w.consumed + u.consuming,
		unleased = w.unleased + u.value - u.consuming
	FROM used u
	WHERE w.organization_id = u.organization_id AND w.meter = u.meter AND w.limit_window = u.limit_window
		AND w.window_start = u.window_start`

// consume moves what a reservation held of a window to consumed: less than that frees the
// rest, more takes what is missing. The window is locked. Where it is the limit's and
// hasn't got the missing part, the answer is [meter.QuotaShortError].
func (h *heldQuota) consume(ctx context.Context, tx scoped, kind calendar.WindowKind, start calendar.Day) error {
	for expired := false; ; expired = true {
		quota, done, err := h.try(ctx, tx, kind, start)
		if err != nil || done {
			return err
		}
		if expired || quota.Waiting {
			return quota
		}
		_, err = tx.Exec(ctx, `SELECT tollgate_expire_held($1, $2, $3, $4, $5)`, h.organization, h.meter, kind, date(start), h.reservation)
		if err != nil {
			return err
		}
	}
}

// try does it where there is enough, and returns the window as it was. What is used of a
// window without a limit, beyond what was held, is unleased.
func (h *heldQuota) try(ctx context.Context, tx scoped, kind calendar.WindowKind, start calendar.Day) (*meter.QuotaShortError, bool, error) {
	var quota meter.QuotaShortError
	var done bool
	limited := kind == h.limit && h.used > h.held
	err := tx.QueryRow(ctx, `
		WITH changing AS MATERIALIZED (
			SELECT $7 AND tollgate_plan_changing($1) AS yet
		), settled AS (
			UPDATE quota_windows
			SET held = held - $5::int8, consumed = consumed + CASE WHEN $7 THEN $6::int8 ELSE least($5::int8, $6::int8) END,
				unleased = unleased + CASE WHEN $7 THEN 0 ELSE greatest(0, $6::int8 - $5::int8) END,
				max = greatest(CASE WHEN $7 THEN $8::int8 ELSE plan_max END, consumed + leased + held, max)
			WHERE organization_id = $1 AND meter = $2 AND limit_window = $3 AND window_start = $4
				AND (NOT $7 OR NOT (SELECT yet FROM changing) AND $6::int8 - $5::int8 <= $8::int8 - consumed - leased - held - unleased)
			RETURNING 1
		)
		SELECT CASE WHEN $7 THEN $8::int8 ELSE plan_max END, consumed, unleased, leased, held, tollgate_window_current(quota_windows), (SELECT yet FROM changing), EXISTS (SELECT FROM settled)
		FROM quota_windows
		WHERE organization_id = $1 AND meter = $2 AND limit_window = $3 AND window_start = $4`,
		h.organization, h.meter, kind, date(start), h.held, h.used, limited, h.max).
		Scan(&quota.Max, &quota.Consumed, &quota.Unleased, &quota.Leased, &quota.Held, &quota.Current, &quota.Waiting, &done)
	return &quota, done, err
}
