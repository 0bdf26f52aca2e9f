package pgstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore/internal/db"
	"github.com/riverline/tollgate/plans"
)

// LoadOrganization implements [meter.Store].
func (s *Store) LoadOrganization(ctx context.Context, id uuid.UUID, day calendar.Day) (meter.Snapshot, error) {
	snapshot := meter.Snapshot{Organization: id}
	err := s.asOrganizationSoon(ctx, id, func(ctx context.Context, tx scoped) error {
		seen, err := tx.OrganizationSeen(ctx, id)
		if err != nil {
			return orNotFound(err, meter.ErrUnknownOrganization, id)
		}
		if snapshot.Seen, err = parseSeen(seen); err != nil {
			return err
		}
		contracts, now, err := readContracts(ctx, tx, id)
		if err != nil {
			return err
		}
		snapshot.Plan, snapshot.ReadAt = contracts[id].At(now).Plan, now
		if snapshot.Terms, err = readTerms(ctx, tx, id, now); err != nil {
			return err
		}
		rows, err := tx.StoredUsage(ctx, date(day), id, date(day.Month()))
		snapshot.Usage = convert(rows, func(r db.StoredUsageRow) meter.Stored {
			return meter.Stored{Meter: r.Meter, Day: r.DayValue, DayAt: r.DayAt, Month: r.MonthValue}
		})
		if err != nil {
			return err
		}
		if err := addQuarantined(ctx, tx, &snapshot, day); err != nil {
			return err
		}
		return addHeld(ctx, tx, &snapshot, day)
	})
	return snapshot, wrap(answered(err), "load organization %s", id)
}

// readTerms returns an organization's plan versions over time, from those on that usage may
// still be reported of; the times without a contract between and after them are terms
// without a plan.
func readTerms(ctx context.Context, tx scoped, id uuid.UUID, now time.Time) ([]meter.Term, error) {
	rows, err := tx.Query(ctx, `
		SELECT plan, plan_version, start_at, end_at FROM organization_terms
		WHERE organization_id = $1 AND (end_at IS NULL OR end_at > $2)
		ORDER BY start_at`, id, now.Add(-meter.IdentityRetention))
	if err != nil {
		return nil, err
	}
	var terms []meter.Term
	var t meter.Term
	var end, ended *time.Time
	_, err = pgx.ForEachRow(rows, []any{&t.Plan, &t.Version, &t.From, &end}, func() error {
		if ended != nil && ended.Before(t.From) {
			terms = append(terms, meter.Term{From: ended.UTC()})
		}
		t.From, ended = t.From.UTC(), end
		terms = append(terms, t)
		return nil
	})
	if err == nil && ended != nil {
		terms = append(terms, meter.Term{From: ended.UTC()})
	}
	return terms, err
}

// addQuarantined adds what is set aside of the day and of its month up to it.
func addQuarantined(ctx context.Context, tx scoped, snapshot *meter.Snapshot, day calendar.Day) error {
	rows, err := tx.Query(ctx, `
		SELECT meter, coalesce(sum(in_windows) FILTER (WHERE day = $3), 0)::bigint, sum(in_windows)::bigint
		FROM usage_quarantine
		WHERE organization_id = $1 AND state = 'quarantined' AND in_windows > 0 AND day BETWEEN $2 AND $3
		GROUP BY meter ORDER BY meter`, snapshot.Organization, date(day.Month()), date(day))
	if err != nil {
		return err
	}
	var apart meter.Stored
	_, err = pgx.ForEachRow(rows, []any{&apart.Meter, &apart.QuarantinedDay, &apart.QuarantinedMonth}, func() error {
		u := storedOf(snapshot, apart.Meter)
		u.QuarantinedDay, u.QuarantinedMonth = apart.QuarantinedDay, apart.QuarantinedMonth
		return nil
	})
	return err
}

// addHeld adds what reservations hold of the day and of its month.
func addHeld(ctx context.Context, tx scoped, snapshot *meter.Snapshot, day calendar.Day) error {
	rows, err := tx.HeldUsage(ctx, db.HeldUsageParams{
		Day: date(day), OrganizationID: snapshot.Organization, MonthStart: date(day.Month()), MonthEnd: date(calendar.DayOf(calendar.WindowMonth.On(day).End) - 1),
	})
	for _, r := range rows {
		u := storedOf(snapshot, r.Meter)
		u.HeldDay, u.HeldMonth = r.HeldDay, r.HeldMonth
	}
	return err
}

// storedOf returns what a snapshot has of a meter, and makes it at the first need.
func storedOf(snapshot *meter.Snapshot, key string) *meter.Stored {
	i := slices.IndexFunc(snapshot.Usage, func(u meter.Stored) bool { return u.Meter == key })
	if i < 0 {
		i = len(snapshot.Usage)
		snapshot.Usage = append(snapshot.Usage, meter.Stored{Meter: key})
	}
	return &snapshot.Usage[i]
}

// CurrentUsage returns the record of an organization, meter and day; where there is
// none, one with a value of zero. It knows nothing of what instances have yet to flush.
func (s *Store) CurrentUsage(ctx context.Context, organization uuid.UUID, meterKey string, day calendar.Day) (billing.UsageRecord, error) {
	record := billing.UsageRecord{Organization: organization, Meter: meterKey, Day: day}
	err := s.asOrganization(ctx, organization, func(ctx context.Context, tx scoped) error {
		row, err := tx.UsageRecord(ctx, organization, meterKey, date(day))
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		record.Value, record.LastAt = row.Value, row.LastAt
		return err
	})
	return record, wrap(err, "read the usage of organization %s", organization)
}

// UsageRange returns an organization's records of the days from to to, both
// included, in the order of day and then of the catalog's meters. An empty meter
// means all meters.
func (s *Store) UsageRange(ctx context.Context, organization uuid.UUID, from, to calendar.Day, meterKey string) ([]billing.UsageRecord, error) {
	var records []billing.UsageRecord
	err := s.asOrganization(ctx, organization, func(ctx context.Context, tx scoped) error {
		rows, err := tx.UsageRange(ctx, db.UsageRangeParams{
			OrganizationID: organization,
			FromDay:        date(from),
			ToDay:          date(to),
			Meter:          meterKey,
		})
		records = convert(rows, func(r db.UsageRangeRow) billing.UsageRecord {
			return billing.UsageRecord{Organization: organization, Meter: r.Meter, Day: calendar.DayOf(r.Day), Value: r.Value, LastAt: r.LastAt}
		})
		return err
	})
	return records, wrap(err, "read the usage of organization %s", organization)
}

// UsageRangeAll folds the records of the days from to to, both included, for every
// organization and meter, in the order of organization and then of the catalog's
// meters. Names and plans are those of now. UnitSeconds is left empty: it belongs to
// rolled days, and records are not rolled. A sum beyond an int64, which takes more than 92
// full days, is an [*fault.FieldError]: nothing is cut.
func (s *Store) UsageRangeAll(ctx context.Context, from, to calendar.Day) ([]billing.UsageTotal, error) {
	var totals []billing.UsageTotal
	err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.UsageRangeAll(ctx, date(from), date(to))
		if i := slices.IndexFunc(rows, func(r db.UsageRangeAllRow) bool { return r.Beyond }); i >= 0 {
			return &fault.FieldError{Field: "to", Rule: fmt.Sprintf(
				"must be nearer to from: the sum of %s by organization %s over these days is beyond an int64", rows[i].Meter, rows[i].OrganizationID)}
		}
		totals = convert(rows, func(r db.UsageRangeAllRow) billing.UsageTotal {
			return billing.UsageTotal{
				Organization:     r.OrganizationID,
				OrganizationName: r.OrganizationName,
				Plan:             r.Plan,
				Meter:            r.Meter,
				Unit:             r.Unit,
				Aggregation:      plans.Aggregation(r.Aggregation),
				Value:            r.Value,
			}
		})
		return err
	})
	return totals, wrap(err, "read the usage of %s to %s", from, to)
}

// EnsurePartitions makes the partitions of the day's month and of monthsAhead months
// after it, 0 to 119, where they are missing. Usage of a month that has none is
// kept in a default partition, and moves when the month's is made.
func (s *Store) EnsurePartitions(ctx context.Context, day calendar.Day, monthsAhead int) error {
	err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) error {
		return tx.EnsurePartitions(ctx, date(day), int32(min(max(monthsAhead, -1), 1000)+1))
	})
	return wrap(err, "make the partitions from %s", day)
}

// DropUsageRows drops the batch rows of all months that are closed, as are at least later months after each,
// 4 or more, and returns how many months they were. The oldest month goes first: one that can't go yet keeps those after
// it. Records, rolled days and statements stay.
func (s *Store) DropUsageRows(ctx context.Context, later int) (int64, error) {
	for dropped := int64(0); ; dropped++ {
		var month *time.Time
		err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) error {
			return tx.QueryRow(ctx, `SELECT tollgate_drop_usage_rows($1)`, later).Scan(&month)
		})
		if err != nil || month == nil {
			return dropped, wrap(err, "drop batch rows")
		}
	}
}

// never is what [rowsFrom] returns where no batch rows were dropped.
var never = calendar.DayOf(time.Time{})

// rowsFrom returns the first day whose batch rows are kept.
func rowsFrom(ctx context.Context, tx scoped) (calendar.Day, error) {
	var day time.Time
	err := tx.QueryRow(ctx, `SELECT rows_from FROM usage_retention`).Scan(&day)
	return calendar.DayOf(day), err
}
