package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// DirectInstance is the instance under which usage is written that no instance
// metered: by [Store.IncrementUsage], [Store.UpdatePeak] and [Store.UpdateSnapshot].
// Each such write is a batch of one row, so that batches and records agree. The
// instance is always stopped: it holds nothing back, and no rollup waits for it.
var DirectInstance = uuid.MustParse("00000000-0000-7000-8000-000000000001")

// IncrementUsage adds a quantity, 0 to [plans.MaxQuantity], to a [plans.Sum] meter's
// record of a day (C3). It bears no identity: called again, it counts again.
//
// Like the other direct writes it is for administration, imports and tests: all of
// them wait for each other. The hot path is [Store.ApplyBatch]. A field that breaks
// its rule is an [*accounts.FieldError], an organization that doesn't exist
// [accounts.ErrNotFound], a sum beyond [plans.MaxDaySum] [meter.ErrQuantityOverflow].
func (s *Store) IncrementUsage(ctx context.Context, organization uuid.UUID, meterKey string, day plans.Day, quantity int64) error {
	err := s.writeDirectly(ctx, "quantity", meter.Row{
		Organization: organization, Meter: meterKey, Aggregation: plans.Sum, Day: day, Value: quantity,
	})
	return wrap(err, "increment %s of organization %s", meterKey, organization)
}

// UpdatePeak raises a [plans.Max] meter's record of a day to a value, 0 to
// [plans.MaxQuantity], unless it is there or above (C3). See [Store.IncrementUsage].
func (s *Store) UpdatePeak(ctx context.Context, organization uuid.UUID, meterKey string, day plans.Day, value int64) error {
	err := s.writeDirectly(ctx, "value", meter.Row{
		Organization: organization, Meter: meterKey, Aggregation: plans.Max, Day: day, Value: value,
	})
	return wrap(err, "update the peak of %s of organization %s", meterKey, organization)
}

// UpdateSnapshot sets a [plans.Last] meter's record of a day to a value, 0 to
// [plans.MaxQuantity], unless a snapshot of a later time is there (C3). See
// [Store.IncrementUsage].
func (s *Store) UpdateSnapshot(ctx context.Context, organization uuid.UUID, meterKey string, day plans.Day, value int64, at time.Time) error {
	err := s.writeDirectly(ctx, "value", meter.Row{
		Organization: organization, Meter: meterKey, Aggregation: plans.Last, Day: day, Value: value, At: at,
	})
	return wrap(err, "update the snapshot of %s of organization %s", meterKey, organization)
}

// writeDirectly applies one row as a batch of [DirectInstance]; field is what the
// caller calls the row's value.
func (s *Store) writeDirectly(ctx context.Context, field string, row meter.Row) error {
	if row.Value < 0 || row.Value > plans.MaxQuantity {
		return &accounts.FieldError{Field: field, Rule: fmt.Sprintf("must be 0 to %d, is %d", int64(plans.MaxQuantity), row.Value)}
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	return s.asPlatformWriting(ctx, func(ctx context.Context, tx scoped) error {
		if _, err := tx.Organization(ctx, row.Organization); err != nil {
			return orNotFound(err)
		}
		var now time.Time
		if err := tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
			return err
		}
		if row.At.IsZero() {
			row.At = now
		}
		// Days are locked before instances, as everywhere.
		if err := lockDays(ctx, tx, shared, []int32{int32(row.Day)}); err != nil {
			return err
		}
		if err := tx.EnsureDirectInstance(ctx, DirectInstance, "direct writes"); err != nil {
			return err
		}
		seq, err := tx.NextDirectSeq(ctx, DirectInstance)
		if err != nil {
			return err
		}
		batch := meter.Batch{ID: meter.BatchID{Instance: DirectInstance, Seq: seq}, Watermark: now, Rows: []meter.Row{row}, Reports: 1}
		_, err = applyRows(ctx, tx, batch, meter.InstanceStopped, nil)
		if errors.Is(err, ErrUnknownMeter) {
			return &accounts.FieldError{Field: "meter", Rule: fmt.Sprintf("must be a %s meter of the catalog, %q is not", row.Aggregation, row.Meter)}
		}
		return orOverflow(err)
	})
}

// orOverflow turns the refusal of a record beyond [plans.MaxDaySum] into the domain's error.
func orOverflow(err error) error {
	var server *pgconn.PgError
	if errors.As(err, &server) && server.ConstraintName == dayValueCheck {
		return meter.ErrQuantityOverflow
	}
	return err
}

// dayValueCheck is the constraint that bounds a record.
const dayValueCheck = "usage_daily_value_check"

// orUnknownInstance turns the absence of a row into the domain's error.
func orUnknownInstance(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return meter.ErrUnknownInstance
	}
	return err
}
