package pgstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// applyDirectly writes rows as a batch of an instance that is always stopped, and says
// whether it was written: it is not where it had been before. The sequence number 0 is the
// one that is next.
func (s *Store) applyDirectly(
	ctx context.Context, field, host string, id meter.BatchID, rows []meter.Row, written *bool,
) error {
	for _, r := range rows {
		if r.Value < 0 || r.Value > plans.MaxQuantity {
			return &fault.FieldError{Field: field, Rule: fmt.Sprintf("must be 0 to %d, is %d", int64(plans.MaxQuantity), r.Value)}
		}
	}
	return s.asPlatformWriting(ctx, func(ctx context.Context, tx scoped) error {
		*written = false
		var now time.Time
		if err := tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
			return err
		}
		priced, err := pricedRows(ctx, tx, rows, now.UTC())
		if err != nil {
			return err
		}
		applied, err := applyStopped(ctx, tx, id, host, meter.Batch{Watermark: now, Rows: priced, Reports: int64(len(rows))}, nil)
		if errors.Is(err, ErrUnknownMeter) {
			return &fault.FieldError{Field: "meter", Rule: fmt.Sprintf("must be a %s meter of the catalog, %q is not", rows[0].Aggregation, rows[0].Meter)}
		}
		*written = !applied.Duplicate
		return orTooLate(orOverflow(err))
	})
}

// applyStopped applies a batch of an instance that is always stopped, and that is made where it
// isn't there; host says what it is. The sequence number 0 is the one that is next.
func applyStopped(ctx context.Context, tx scoped, id meter.BatchID, host string, batch meter.Batch, held *heldQuota) (meter.Applied, error) {
	// Days are locked before instances, as everywhere.
	if err := lockDays(ctx, tx, shared, daysOf(batch.Rows)); err != nil {
		return meter.Applied{}, err
	}
	if err := tx.EnsureDirectInstance(ctx, id.Instance, host); err != nil {
		return meter.Applied{}, err
	}
	if id.Seq == 0 {
		var err error
		if id.Seq, err = tx.NextDirectSeq(ctx, id.Instance); err != nil {
			return meter.Applied{}, err
		}
	}
	batch.ID = id
	return applyRows(ctx, tx, batch, meter.InstanceStopped, held, &turn{})
}

// pricedRows completes direct rows with their times and with the plan versions that were
// in force then, and folds them: one a key, in the order of batches.
func pricedRows(ctx context.Context, tx scoped, rows []meter.Row, now time.Time) ([]meter.Row, error) {
	terms, err := termsOf(ctx, tx, rows)
	if err != nil {
		return nil, err
	}
	out := make([]meter.Row, len(rows))
	for i, r := range rows {
		if r.At.IsZero() {
			r.At = directAt(r, now)
		}
		if r.Plan == "" {
			r.Plan, r.PlanVersion = terms[r.Organization].at(r.At)
		}
		out[i] = r
	}
	slices.SortStableFunc(out, meter.CompareRows)
	folded := out[:0]
	for _, r := range out {
		if n := len(folded); n > 0 && meter.CompareRows(folded[n-1], r) == 0 {
			foldDirect(&folded[n-1], r)
			continue
		}
		folded = append(folded, r)
	}
	return folded, nil
}

// directAt is the time of a row that has none.
func directAt(r meter.Row, now time.Time) time.Time {
	start, end := r.Day.Start(), r.Day.End().Add(-time.Microsecond)
	switch {
	case r.Aggregation == plans.Last || now.Before(start):
		return start
	case now.Before(end):
		return now
	default:
		return end
	}
}

// foldDirect takes a row of the same key into another one, which came before it.
func foldDirect(into *meter.Row, r meter.Row) {
	switch r.Aggregation {
	case plans.Sum:
		into.Value += min(r.Value, math.MaxInt64-into.Value)
	case plans.Max:
		into.Value = max(into.Value, r.Value)
	default:
		if !r.At.Before(into.At) {
			into.Value = r.Value
		}
	}
	if r.At.After(into.At) {
		into.At = r.At
	}
}

func daysOf(rows []meter.Row) []int32 {
	days := make([]int32, len(rows))
	for i := range rows {
		days[i] = int32(rows[i].Day)
	}
	slices.Sort(days)
	return slices.Compact(days)
}

// directTerms are an organization's plan versions over time.
type directTerms []struct {
	plan       string
	version    int64
	start, end *time.Time
}

// at returns the plan version that is in force at a time; none is empty.
func (t directTerms) at(at time.Time) (string, int) {
	for _, term := range t {
		if (term.start == nil || !term.start.After(at)) && (term.end == nil || term.end.After(at)) {
			return term.plan, int(term.version)
		}
	}
	return "", 0
}

// termsOf reads the terms of the rows' organizations. One that doesn't exist is
// [accounts.ErrOrganizationNotFound].
func termsOf(ctx context.Context, tx scoped, rows []meter.Row) (map[uuid.UUID]directTerms, error) {
	terms := map[uuid.UUID]directTerms{}
	var ids []uuid.UUID
	for _, r := range rows {
		if _, seen := terms[r.Organization]; !seen {
			terms[r.Organization] = nil
			ids = append(ids, r.Organization)
		}
	}
	var missing uuid.UUID
	err := tx.QueryRow(ctx, `
		SELECT id FROM unnest($1::uuid[]) WITH ORDINALITY AS asked (id, n)
		WHERE NOT EXISTS (SELECT FROM organizations o WHERE o.id = asked.id) ORDER BY n LIMIT 1`, ids).Scan(&missing)
	if err == nil {
		return nil, accounts.ErrOrganizationNotFound.Of(missing)
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return nil, err
	}
	found, err := tx.Query(ctx, `
		SELECT organization_id, plan, plan_version, start_at, end_at FROM organization_terms WHERE organization_id = ANY ($1::uuid[])`, ids)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	for found.Next() {
		var id uuid.UUID
		one := make(directTerms, 1)
		if err := found.Scan(&id, &one[0].plan, &one[0].version, &one[0].start, &one[0].end); err != nil {
			return nil, err
		}
		terms[id] = append(terms[id], one[0])
	}
	return terms, found.Err()
}
