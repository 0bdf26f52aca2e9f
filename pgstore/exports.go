package pgstore

import (
	"context"
	"encoding/json"
	"fmt"
	"math"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/pgstore/internal/db"
	"github.com/riverline/tollgate/plans"
)

// Export returns the period's export: a run that is under way, else the final one, else
// the newest, else [billing.ErrExportNotFound].
func (s *Store) Export(ctx context.Context, period calendar.Period) (billing.Export, error) {
	var found billing.Export
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		row, err := tx.ExportOfPeriod(ctx, period.Start())
		if err != nil {
			return orNotFound(err, billing.ErrExportNotFound, period)
		}
		found, err = export(row)
		return err
	})
	return found, wrap(err, "read the export of %s", period)
}

// ExportRevision returns a revision of the period's export: the one that was issued, else
// the newest run, else [billing.ErrExportNotFound].
func (s *Store) ExportRevision(ctx context.Context, period calendar.Period, revision int) (billing.Export, error) {
	var found billing.Export
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		row, err := tx.ExportOfRevision(ctx, period.Start(), int32(min(max(revision, 0), math.MaxInt32)))
		if err != nil {
			return orNotFound(err, billing.ErrExportNotFound, billing.RevisionName(period, revision))
		}
		found, err = export(row)
		return err
	})
	return found, wrap(err, "read revision %d of the export of %s", revision, period)
}

// Exports returns at most limit runs, the newest first: those that were requested before the run of an
// ID ([uuid.Nil] is after all).
func (s *Store) Exports(ctx context.Context, before uuid.UUID, limit int) ([]billing.Export, error) {
	found := []billing.Export{}
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.Exports(ctx, before, pageSize(limit))
		if err != nil {
			return err
		}
		for _, row := range rows {
			e, err := export(row)
			if err != nil {
				return err
			}
			found = append(found, e)
		}
		return nil
	})
	return found, wrap(err, "list exports")
}

// ExportTotals returns the frozen totals of the next organizations, at most limit of
// them, whose IDs come after `after` ([uuid.Nil] is before all): all meters of each, in
// the order of organization and then of the catalog's meters. It returns none after
// the last. An export that is not frozen is [billing.ErrExportNotFrozen].
func (s *Store) ExportTotals(ctx context.Context, id, after uuid.UUID, limit int) ([]billing.UsageTotal, error) {
	var totals []billing.UsageTotal
	err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) error {
		if _, err := frozenExport(ctx, tx, id); err != nil {
			return err
		}
		rows, err := tx.ExportTotals(ctx, id, after, pageSize(limit))
		totals = convert(rows, func(r db.ExportTotalsRow) billing.UsageTotal {
			return billing.UsageTotal{
				Organization:     r.OrganizationID,
				OrganizationName: r.Name,
				Plan:             r.Plan,
				Meter:            r.Meter,
				Unit:             r.Unit,
				Aggregation:      plans.Aggregation(r.Aggregation),
				Value:            r.Value,
				UnitSeconds:      r.UnitSeconds,
			}
		})
		return err
	})
	return totals, wrap(err, "read the totals of export %s", id)
}

func frozenExport(ctx context.Context, tx scoped, id uuid.UUID) (db.Export, error) {
	row, err := tx.ExportByID(ctx, id)
	switch {
	case err != nil:
		return row, orNotFound(err, billing.ErrExportNotFound, id)
	case row.FrozenAt == nil:
		return row, billing.ErrExportNotFrozen
	}
	return row, nil
}

func export(row db.Export) (billing.Export, error) {
	out := billing.Export{
		ID:          row.ID,
		Period:      calendar.PeriodOf(row.Period),
		WorkflowID:  row.WorkflowID,
		RunID:       row.RunID,
		Stage:       billing.Stage(row.Stage),
		StagedAt:    row.StagedAt,
		Cut:         row.Cut,
		Provisional: row.Provisional,
		RequestedBy: row.RequestedBy,
		RequestedAt: row.RequestedAt,
		FinishedAt:  row.FinishedAt,
		Error:       row.Error,
		Revision:    int(row.Revision),
		Reason:      row.Reason,
		IssuedAt:    row.IssuedAt,
		Request:     row.Request,

		RequestedByID: orZero(row.RequestedByID),
		Reopens:       orZero(row.Reopens),
	}
	if row.Manifest != nil {
		out.Manifest = &billing.Manifest{}
		if err := json.Unmarshal(row.Manifest, out.Manifest); err != nil {
			return out, fmt.Errorf("read the manifest: %w", err)
		}
	}
	return out, nil
}
