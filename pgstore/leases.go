package pgstore

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore/internal/db"
)

// AdjustLeases implements [meter.LeaseStore]. A window opens with the first ask that
// wants quota: what is recorded of its days until then is unleased. An instance
// that was declared lost, or had stopped, is live again when it asks. An instance that was never registered is [meter.ErrUnknownInstance],
// one whose last batch isn't there [meter.ErrStoreBehind]; an ask that Postgres refuses for good fails all with [meter.ErrAskRefused],
// one that it can't decide on now with [meter.ErrAskContested].
func (s *Store) AdjustLeases(ctx context.Context, by meter.BatchID, asks []meter.LeaseAsk) (meter.LeaseAnswers, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	var answers meter.LeaseAnswers
	err := s.asPlatformSoon(ctx, func(ctx context.Context, tx scoped) error {
		answers.Answers = make([]meter.LeaseAnswer, len(asks))
		order := make([]int, len(asks))
		for i := range order {
			order[i] = i
		}
		slices.SortFunc(order, func(i, j int) int { return compareWindows(asks[i].QuotaWindow, asks[j].QuotaWindow) })
		return adjust(ctx, tx, by, asks, order, &answers)
	})
	return answers, wrap(answered(err), "adjust the leases of instance %s", by.Instance)
}

func compareWindows(a, b meter.QuotaWindow) int {
	return cmp.Or(
		bytes.Compare(a.Organization[:], b.Organization[:]),
		cmp.Compare(a.Meter, b.Meter),
		cmp.Compare(a.Kind, b.Kind),
		cmp.Compare(a.Start, b.Start),
	)
}

// adjust answers the asks in one round trip: every window that must be opened is,
// before the first is locked.
func adjust(ctx context.Context, tx scoped, by meter.BatchID, asks []meter.LeaseAsk, order []int, answers *meter.LeaseAnswers) error {
	known, instance := false, by.Instance
	var last int64
	var b pgx.Batch
	// An instance that asks is alive.
	b.Queue(`
		UPDATE instances SET status = 'live', seen_at = greatest(seen_at, clock_timestamp())
		WHERE id = $1 AND status <> 'live'`, instance)
	// It is seen, also where it can't flush. A flush that has the row says so itself.
	b.Queue(`
		UPDATE instances SET seen_at = greatest(seen_at, clock_timestamp())
		WHERE id = (
			SELECT id FROM instances WHERE id = $1 AND seen_at < clock_timestamp() - interval '1 second'
			FOR NO KEY UPDATE SKIP LOCKED)`, instance)
	// Shuts out who releases the instance's leases, and nobody else.
	b.Queue(`
		SELECT last_seq, (extract(epoch FROM greatest(interval '0', clock_timestamp() - seen_at)) * 1000000)::bigint
		FROM instances WHERE id = $1 FOR KEY SHARE`, instance).Query(func(rows pgx.Rows) error {
		var seenAgo int64
		_, err := pgx.ForEachRow(rows, []any{&last, &seenAgo}, func() error {
			known, answers.SeenAgo = true, time.Duration(seenAgo)*time.Microsecond
			return nil
		})
		return err
	})
	queueOpening(&b, instance, asks, order)
	for _, i := range order {
		a, ask := &answers.Answers[i], &asks[i]
		b.Queue(`SELECT * FROM tollgate_adjust_lease($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`,
			instance, by.Seq, ask.Organization, ask.Meter, ask.Kind, date(ask.Start), ask.Generation, ask.Version,
			ask.Issued, ask.Spent, ask.Outstanding, ask.Adopted, ask.Need, ask.Look, ask.Plan, ask.PlanVersion, ask.Max).
			QueryRow(func(row pgx.Row) error {
				return row.Scan(&a.Issued, &a.Outdated, &a.Waiting, &a.Changing, &a.Max, &a.Consumed, &a.Unleased, &a.Leased,
					&a.Held, &a.Outstanding, &a.Idle)
			})
	}
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		if !known && hasCode(err, foreignKeyViolation) {
			return meter.ErrUnknownInstance.Of(instance)
		}
		return err
	}
	switch {
	case !known:
		return meter.ErrUnknownInstance.Of(instance)
	case last < by.Seq:
		return fmt.Errorf("%w: %d of instance %s; its last one is %d", meter.ErrStoreBehind, by.Seq, instance, last)
	}
	return nil
}

// queueOpening opens the windows in which an instance that is live wants more than
// it has spent, or has something outstanding, under a plan that is in force.
func queueOpening(b *pgx.Batch, instance uuid.UUID, asks []meter.LeaseAsk, order []int) {
	var organizations [][16]byte
	var meters, kinds, planKeys []string
	var starts []int32
	var versions, maxes []int64
	for _, i := range order {
		ask := &asks[i]
		if ask.Issued <= ask.Spent && ask.Outstanding == 0 {
			continue
		}
		organizations = append(organizations, ask.Organization)
		meters = append(meters, ask.Meter)
		kinds = append(kinds, string(ask.Kind))
		starts = append(starts, int32(ask.Start))
		planKeys = append(planKeys, ask.Plan)
		versions = append(versions, int64(ask.PlanVersion))
		maxes = append(maxes, ask.Max)
	}
	if len(starts) == 0 {
		return
	}
	b.Queue(`
		SELECT tollgate_open_quota_windows(array_agg(organization_id), array_agg(meter), array_agg(kind),
			array_agg(date '1970-01-01' + start), array_agg(max))
		FROM unnest($1::uuid[], $2::text[], $3::text[], $4::int4[], $5::int8[], $6::text[], $7::int8[])
			AS a (organization_id, meter, kind, start, max, plan, plan_version)
		WHERE NOT tollgate_plan_outdated(organization_id, plan, plan_version)
			AND EXISTS (SELECT FROM instances WHERE id = $8 AND status = 'live')`,
		organizations, meters, kinds, starts, maxes, planKeys, versions, instance)
}

// releaseLeases gives back all that an instance holds; its row is locked. record
// keeps what was outstanding. A window that Postgres refuses to change keeps its lease, and
// holds up no other one.
func releaseLeases(ctx context.Context, tx scoped, instance uuid.UUID, record bool) error {
	held, err := tx.LeasedWindows(ctx, instance)
	if err != nil {
		return err
	}
	windows := convert(held, leasedWindow)
	release := func(windows []meter.LeasedWindow) error {
		return within(ctx, tx, func(ctx context.Context, tx scoped) error { return releaseWindows(ctx, tx, instance, windows, record) })
	}
	if err := release(windows); !refusedForGood(err) {
		return err
	}
	slices.SortFunc(windows, func(a, b meter.LeasedWindow) int { return compareWindows(a.QuotaWindow, b.QuotaWindow) })
	for i := range windows {
		if err := release(windows[i : i+1]); err != nil && !refusedForGood(err) {
			return err
		}
	}
	return nil
}

// releaseWindows gives back what an instance holds of windows; its row is locked. record keeps
// what was outstanding.
func releaseWindows(ctx context.Context, tx scoped, instance uuid.UUID, windows []meter.LeasedWindow, record bool) error {
	of := db.LockLeasedWindowsParams{}
	var generations []int64
	for _, w := range windows {
		of.Organizations = append(of.Organizations, w.Organization)
		of.Meters = append(of.Meters, w.Meter)
		of.Kinds = append(of.Kinds, string(w.Kind))
		of.Starts = append(of.Starts, date(w.Start))
		generations = append(generations, w.Generation)
	}
	if err := tx.LockLeasedWindows(ctx, of); err != nil {
		return err
	}
	if record {
		err := tx.RecordLostLeases(ctx, db.RecordLostLeasesParams{
			InstanceID: instance, Organizations: of.Organizations, Meters: of.Meters, Kinds: of.Kinds, Starts: of.Starts,
		})
		if err != nil {
			return err
		}
	}
	return tx.ReleaseLeases(ctx, db.ReleaseLeasesParams{
		InstanceID: instance, Organizations: of.Organizations, Meters: of.Meters, Kinds: of.Kinds, Starts: of.Starts, Generations: generations,
	})
}

func leasedWindow(r db.LeasedWindowsRow) meter.LeasedWindow {
	return meter.LeasedWindow{
		QuotaWindow: meter.QuotaWindow{
			Organization: r.OrganizationID, Meter: r.Meter, Kind: calendar.WindowKind(r.LimitWindow), Start: calendar.DayOf(r.WindowStart),
		},
		Generation: r.Generation, Version: r.Version,
	}
}
