package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// DirectInstance is the instance under which usage is written that no instance
// metered: by [Store.IncrementUsage], [Store.UpdatePeak] and [Store.UpdateSnapshot]. Each
// such write is a batch, so that batches and records agree. The instance is always
// stopped: it holds nothing back, and no rollup waits for it.
var DirectInstance = uuid.MustParse("00000000-0000-7000-8000-000000000001")

// directHost says in the list of instances what [DirectInstance] is.
const directHost = "direct writes"

// ImportUsage writes a chunk of past usage: sums add, peaks keep the greatest, snapshots
// the latest. Chunk n of a source is the batch n of the instance, which counts once,
// however often it is sent and by however many at once. Chunks follow each other without
// a gap. It reports whether the chunk was written; host says in the list of instances what
// the source is.
//
// Rows of the same organization, meter and day fold into one. A row without a time takes
// one of its day: snapshots its start, as the level of a day holds from then on; sums and
// peaks its end, or now. It is priced by the plan version that was in force at its time.
// A value is 0 to [plans.MaxQuantity]. A field that breaks its rule is an
// [*fault.FieldError], an organization that doesn't exist [accounts.ErrOrganizationNotFound].
func (s *Store) ImportUsage(ctx context.Context, chunk meter.BatchID, host string, rows []meter.Row) (written bool, err error) {
	if chunk.Seq < 1 {
		return false, fmt.Errorf("import chunk %d of %s: chunks count from 1", chunk.Seq, chunk.Instance)
	}
	err = s.applyDirectly(ctx, "value", host, chunk, rows, &written)
	return written && err == nil, wrap(err, "import chunk %d of %s", chunk.Seq, chunk.Instance)
}

// IncrementUsage adds a quantity, 0 to [plans.MaxQuantity], to a [plans.Sum] meter's
// record of a day (C3). It bears no identity: called again, it counts again;
// [Store.ImportUsage], whose rules for rows hold here, too, counts once.
//
// It is for administration and tests: all direct writes wait for each other. The hot path
// is [Store.ApplyBatch]. A field that breaks its rule is an [*fault.FieldError], an
// organization that doesn't exist [accounts.ErrOrganizationNotFound], a sum beyond
// [plans.MaxDaySum] [meter.ErrQuantityOverflow].
func (s *Store) IncrementUsage(ctx context.Context, organization uuid.UUID, meterKey string, day calendar.Day, quantity int64) error {
	err := s.writeDirectly(ctx, "quantity", meter.Row{
		Organization: organization, Meter: meterKey, Aggregation: plans.Sum, Day: day, Value: quantity,
	})
	return wrap(err, "increment %s of organization %s", meterKey, organization)
}

// UpdatePeak raises a [plans.Max] meter's record of a day to a value, 0 to
// [plans.MaxQuantity], unless it is there or above (C3). See [Store.IncrementUsage].
func (s *Store) UpdatePeak(ctx context.Context, organization uuid.UUID, meterKey string, day calendar.Day, value int64) error {
	err := s.writeDirectly(ctx, "value", meter.Row{
		Organization: organization, Meter: meterKey, Aggregation: plans.Max, Day: day, Value: value,
	})
	return wrap(err, "update the peak of %s of organization %s", meterKey, organization)
}

// UpdateSnapshot sets a [plans.Last] meter's record of a day to a value, 0 to
// [plans.MaxQuantity], unless a snapshot of a later time is there (C3). See
// [Store.IncrementUsage].
func (s *Store) UpdateSnapshot(ctx context.Context, organization uuid.UUID, meterKey string, day calendar.Day, value int64, at time.Time) error {
	err := s.writeDirectly(ctx, "value", meter.Row{
		Organization: organization, Meter: meterKey, Aggregation: plans.Last, Day: day, Value: value, At: at,
	})
	return wrap(err, "update the snapshot of %s of organization %s", meterKey, organization)
}

// writeDirectly applies a row as a batch of [DirectInstance]; field is what the caller
// calls its value.
func (s *Store) writeDirectly(ctx context.Context, field string, row meter.Row) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	var written bool
	return s.applyDirectly(ctx, field, directHost, meter.BatchID{Instance: DirectInstance}, []meter.Row{row}, &written)
}

// orOverflow turns the refusal of a record beyond [plans.MaxDaySum] into the domain's error.
func orOverflow(err error) error {
	var server *pgconn.PgError
	if errors.As(err, &server) && server.ConstraintName == dayValueCheck {
		return meter.ErrQuantityOverflow
	}
	return err
}

// orTooLate turns the refusal of a day whose batch rows were dropped into the domain's error.
func orTooLate(err error) error {
	var server *pgconn.PgError
	if errors.As(err, &server) && server.ConstraintName == keptDayCheck {
		return &fault.FieldError{Field: "day", Rule: "must be one whose batch rows are kept: see --keep-batch-rows"}
	}
	return err
}

// keptDayCheck is the constraint that refuses batch rows of days whose others were dropped.
const keptDayCheck = "batch_rows_of_its_month_were_dropped"

// dayValueCheck is the constraint that bounds a record.
const dayValueCheck = "usage_daily_value_check"
