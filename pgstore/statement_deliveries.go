package pgstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/pgstore/internal/db"
	"github.com/riverline/tollgate/sinks"
)

// deliverable returns an export whose statements may be delivered: they are issued, and no
// later revision has replaced them. Otherwise it is [billing.ErrNotIssued].
func deliverable(ctx context.Context, tx scoped, id uuid.UUID) (db.Export, error) {
	export, err := tx.ExportByID(ctx, id)
	switch {
	case err != nil:
		return export, orNotFound(err, billing.ErrExportNotFound, id)
	case export.IssuedAt == nil, billing.Stage(export.Stage) == billing.StageSuperseded:
		return export, billing.ErrNotIssued
	}
	return export, nil
}

// StatementDeliveryPages divides the organizations of an issued export into pages of a size, or of a
// larger one where that would be more than `most` pages. It returns the last organization of
// each; the last page has no end ([uuid.Max]). It is [billing.ErrNotIssued] where the export's
// statements don't count.
func (s *Store) StatementDeliveryPages(ctx context.Context, id uuid.UUID, size, most int) ([]uuid.UUID, error) {
	var pages []uuid.UUID
	err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) error {
		if _, err := deliverable(ctx, tx, id); err != nil {
			return err
		}
		counts, err := tx.RatingCounts(ctx, id)
		if err != nil {
			return err
		}
		pages, err = tx.DeliveryPages(ctx, id, max(int64(size), (counts.Statements+int64(most)-1)/int64(most), 1))
		if len(pages) == 0 {
			pages = []uuid.UUID{uuid.Max}
		}
		// An earlier revision may have had an organization that comes after the last one.
		pages[len(pages)-1] = uuid.Max
		return err
	})
	return pages, wrap(err, "divide the statements of export %s", id)
}

// IssuedStatements returns the issued statements of the next organizations, at most limit of
// them, with IDs in (after, until], with their customers in a sink and what it has taken of
// this and of earlier revisions. An organization that had a statement in an earlier one, which
// the sink has taken, and has none now has an empty one. It returns none after the last, and
// [billing.ErrNotIssued] where the export's statements don't count.
func (s *Store) IssuedStatements(ctx context.Context, id uuid.UUID, sink string, after, until uuid.UUID, limit int) ([]sinks.Issued, error) {
	var out []sinks.Issued
	err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) error {
		export, err := deliverable(ctx, tx, id)
		if err == nil {
			err = tx.PreferIndexes(ctx)
		}
		if err != nil {
			return err
		}
		earlier, err := tx.EarlierRevisions(ctx, id)
		if err != nil {
			return err
		}
		rows, err := tx.IssuedStatements(ctx, db.IssuedStatementsParams{
			ExportID: id, Sink: sink, After: after, Until: until, Earlier: earlier, PageSize: pageSize(limit),
		})
		if err != nil {
			return err
		}
		before, err := lastDelivered(ctx, tx, export, earlier, sink, rows)
		if err != nil {
			return err
		}
		out = make([]sinks.Issued, len(rows))
		for i, row := range rows {
			if out[i], err = issuedStatement(export, row, before[row.OrganizationID]); err != nil {
				return err
			}
		}
		return nil
	})
	return out, wrap(err, "read the issued statements of export %s for %s", id, sink)
}

// lastDelivered returns what the sink has taken of earlier revisions, by organization.
func lastDelivered(ctx context.Context, tx scoped, export db.Export, earlier []uuid.UUID, sink string, rows []db.IssuedStatementsRow) (map[uuid.UUID]*sinks.Statement, error) {
	if len(earlier) == 0 {
		return map[uuid.UUID]*sinks.Statement{}, nil
	}
	organizations := convert(rows, func(r db.IssuedStatementsRow) uuid.UUID { return r.OrganizationID })
	taken, err := tx.LastDelivered(ctx, organizations, earlier, sink)
	if err != nil {
		return nil, err
	}
	out := map[uuid.UUID]*sinks.Statement{}
	for _, row := range taken {
		if row.Document == "" {
			continue
		}
		found, err := sinkStatement(export, row.Document, row.Number)
		if err != nil {
			return nil, err
		}
		out[row.OrganizationID] = &found
	}
	return out, nil
}

func issuedStatement(export db.Export, row db.IssuedStatementsRow, before *sinks.Statement) (sinks.Issued, error) {
	out := sinks.Issued{Customer: row.Customer, ExternalID: row.Delivered, Replaces: before}
	period := calendar.PeriodOf(export.Period)
	switch {
	case row.Document != "":
		var err error
		out.Statement, err = sinkStatement(export, row.Document, row.Number)
		return out, err
	case before != nil:
		out.Statement = *before
		out.Lines, out.Number = nil, fmt.Sprintf("%s-withdrawn-R%d", before.Number, export.Revision)
	default:
		out.Statement = sinks.Statement{Number: row.Number, PeriodStart: period.Start(), PeriodEnd: period.End()}
	}
	out.Organization = row.OrganizationID
	return out, nil
}

// sinkStatement is a statement as sinks take it.
func sinkStatement(export db.Export, document, number string) (sinks.Statement, error) {
	s, err := statement(document, number, "")
	if err != nil {
		return sinks.Statement{}, err
	}
	period := calendar.PeriodOf(export.Period)
	out := sinks.Statement{
		Number: number, Organization: s.Organization, Currency: s.Currency, PeriodStart: period.Start(), PeriodEnd: period.End(),
		Lines: make([]sinks.Line, len(s.Lines)),
	}
	for i, line := range s.Lines {
		out.Lines[i] = sinks.Line{Position: i + 1, Description: line.Description, Amount: line.Amount.Decimal}
	}
	return out, nil
}

// MarkStatementDelivered records that a sink has taken an organization's statement, and what it made
// of it. What was recorded before stays.
func (s *Store) MarkStatementDelivered(ctx context.Context, export, organization uuid.UUID, sink, externalID string) error {
	err := s.asOrganization(ctx, organization, func(ctx context.Context, tx scoped) error {
		if err := tx.DeleteUndelivered(ctx, export, organization, sink); err != nil {
			return err
		}
		return tx.MarkDelivered(ctx, db.MarkDeliveredParams{
			ExportID: export, OrganizationID: organization, Sink: sink, ExternalID: externalID,
		})
	})
	return wrap(err, "record the delivery of organization %s of export %s to %s", organization, export, sink)
}

// MarkStatementsUndelivered records which statements of an export a sink was not handed, and why, in
// place of what was recorded before. One that it has taken stays delivered.
func (s *Store) MarkStatementsUndelivered(ctx context.Context, export uuid.UUID, sink string, undelivered []sinks.Undelivered) error {
	if len(undelivered) == 0 {
		return nil
	}
	in := db.MarkUndeliveredParams{ExportID: export, Sink: sink}
	for _, u := range undelivered {
		in.Organizations = append(in.Organizations, u.Organization)
		in.States = append(in.States, string(u.State))
		in.Reasons = append(in.Reasons, u.Reason)
	}
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		if err := tx.PreferIndexes(ctx); err != nil {
			return err
		}
		return tx.MarkUndelivered(ctx, in)
	})
	return wrap(err, "record what of export %s was not delivered to %s", export, sink)
}

// StatementDeliveryCounts says what became of an export's issued statements in a sink, those of the
// organizations in (after, until]. That of all is kept until one of them moves.
func (s *Store) StatementDeliveryCounts(ctx context.Context, export uuid.UUID, sink string, after, until uuid.UUID) (sinks.Counts, error) {
	var out sinks.Counts
	err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) (err error) {
		if after != uuid.Nil || until != uuid.Max {
			out, err = countDeliveries(ctx, tx, db.DeliveryCountsParams{ExportID: export, Sink: sink, After: after, Until: until})
			return err
		}
		out, err = deliveryCounts(ctx, tx, export, sink)
		return err
	})
	return out, wrap(err, "count the deliveries of export %s to %s", export, sink)
}

// deliveryCounts are those of all organizations: as they were kept, or counted and kept where nobody is about to move one.
func deliveryCounts(ctx context.Context, tx scoped, export uuid.UUID, sink string) (sinks.Counts, error) {
	var out sinks.Counts
	kept, err := tx.KeptDeliveries(ctx, sink, export)
	if err == nil {
		return out, json.Unmarshal(kept, &out)
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return out, err
	}
	if issued, err := isIssued(ctx, tx, export); err != nil || !issued {
		return out, err
	}
	alone, err := tx.LockDeliveries(ctx, export)
	if err != nil {
		return out, err
	}
	if out, err = countDeliveries(ctx, tx, db.DeliveryCountsParams{ExportID: export, Sink: sink, After: uuid.Nil, Until: uuid.Max}); err != nil || !alone {
		return out, err
	}
	document, err := json.Marshal(out)
	if err != nil {
		return out, err
	}
	return out, tx.KeepDeliveries(ctx, sink, document, export)
}

// isIssued says whether an export's statements are issued, all of them. Before that they come and go.
func isIssued(ctx context.Context, tx scoped, export uuid.UUID) (bool, error) {
	e, err := tx.ExportByID(ctx, export)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return e.IssuedAt != nil, err
}

func countDeliveries(ctx context.Context, tx scoped, of db.DeliveryCountsParams) (sinks.Counts, error) {
	if err := tx.AvoidNestedLoops(ctx); err != nil {
		return sinks.Counts{}, err
	}
	row, err := tx.DeliveryCounts(ctx, of)
	return sinks.Counts{
		Delivered: row.Delivered, NoCustomer: row.NoCustomer, NothingDue: row.NothingDue, Unchanged: row.Unchanged,
		Failed: row.Failed, Pending: row.Pending,
	}, err
}

// StatementDeliveries returns what became of an export's issued statements in a sink, those
// of the next organizations, at most limit of them, with IDs after `after`. An empty state
// means each; otherwise only that one is listed.
func (s *Store) StatementDeliveries(ctx context.Context, export uuid.UUID, sink string, state sinks.State, after uuid.UUID, limit int) ([]sinks.Delivery, error) {
	out := []sinks.Delivery{}
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		if issued, err := isIssued(ctx, tx, export); err != nil || !issued {
			return err
		}
		if err := tx.PreferIndexes(ctx); err != nil {
			return err
		}
		rows, err := tx.ListStatementDeliveries(ctx, db.ListStatementDeliveriesParams{
			ExportID: export, Sink: sink, State: string(state), After: after, PageSize: pageSize(limit),
		})
		for _, r := range rows {
			out = append(out, sinks.Delivery{
				Organization: r.OrganizationID, OrganizationName: r.Name, Statement: r.Number, Sink: sink, State: sinks.State(r.State),
				ExternalID: r.ExternalID, Reason: r.Reason, Attempts: int(r.Attempts), At: r.At.UTC(),
			})
		}
		return err
	})
	return out, wrap(err, "list the deliveries of export %s to %s", export, sink)
}
