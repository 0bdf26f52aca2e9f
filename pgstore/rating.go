package pgstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/pgstore/internal/db"
	"github.com/riverline/tollgate/plans"
)

// RatingPages divides the organizations of an export into pages of a size, and returns
// the last organization of each, in their order.
func (s *Store) RatingPages(ctx context.Context, id uuid.UUID, size int) ([]uuid.UUID, error) {
	var pages []uuid.UUID
	err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) (err error) {
		if _, err := frozenExport(ctx, tx, id); err != nil {
			return err
		}
		pages, err = tx.RatingPages(ctx, id, int64(max(size, 1)))
		return err
	})
	return pages, wrap(err, "divide the organizations of export %s", id)
}

// Ratables returns the next organizations of an export, at most limit of them, with IDs
// in (after, until], as they were frozen. It returns none after the last.
func (s *Store) Ratables(ctx context.Context, id, after, until uuid.UUID, limit int) ([]billing.Ratable, error) {
	var out []billing.Ratable
	err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) error {
		export, err := frozenExport(ctx, tx, id)
		if err != nil {
			return err
		}
		rows, err := tx.AccountOrganizations(ctx, db.AccountOrganizationsParams{ExportID: id, After: after, Until: until, PageSize: pageSize(limit)})
		if err != nil {
			return err
		}
		page, err := readPage(ctx, tx, export, rows)
		if err != nil {
			return err
		}
		out, err = page.ratables(ctx, tx)
		return err
	})
	return out, wrap(err, "read what export %s rates", id)
}

// ExportCatalog returns the part of the catalog by which an export rates: its meters as
// they were frozen, and the plan versions that organizations had, corrected periods included,
// in the order of the catalog. What is published later doesn't change it.
func (s *Store) ExportCatalog(ctx context.Context, id uuid.UUID) (*plans.Catalog, error) {
	out := &plans.Catalog{}
	err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) error {
		if _, err := frozenExport(ctx, tx, id); err != nil {
			return err
		}
		catalog, err := readCatalog(ctx, tx)
		if err != nil {
			return err
		}
		if out.Meters, err = exportMeters(ctx, tx, id); err != nil {
			return err
		}
		used, err := tx.ExportPlans(ctx, id)
		for _, p := range catalog.Plans {
			if slices.ContainsFunc(used, func(u db.ExportPlansRow) bool {
				in, ok := catalog.PlanVersion(u.Plan, int(u.PlanVersion))
				return ok && in.Key == p.Key && in.Version == p.Version
			}) {
				out.Plans = append(out.Plans, p)
			}
		}
		return err
	})
	return out, wrap(err, "read the catalog of export %s", id)
}

func exportMeters(ctx context.Context, tx scoped, id uuid.UUID) ([]plans.Meter, error) {
	meters, err := tx.ExportMeters(ctx, id)
	return convert(meters, func(m db.ExportMetersRow) plans.Meter {
		return plans.Meter{Key: m.Meter, Name: m.Name, Aggregation: plans.Aggregation(m.Aggregation), Unit: m.Unit}
	}), err
}

// ratingPage is the periods of a page of organizations, by organization.
type ratingPage struct {
	export        db.Export
	meters        []plans.Meter
	organizations []uuid.UUID
	periods       map[uuid.UUID]*billing.OrganizationPeriod
}

func readPage(ctx context.Context, tx scoped, export db.Export, rows []db.AccountOrganizationsRow) (*ratingPage, error) {
	page := &ratingPage{export: export, periods: map[uuid.UUID]*billing.OrganizationPeriod{}}
	err := tx.PlanEachTime(ctx)
	if err != nil {
		return nil, err
	}
	if page.meters, err = exportMeters(ctx, tx, export.ID); err != nil {
		return nil, err
	}
	for _, o := range rows {
		page.organizations = append(page.organizations, o.OrganizationID)
		page.periods[o.OrganizationID] = &billing.OrganizationPeriod{
			Organization: o.OrganizationID, OrganizationName: o.Name, Currency: money.Currency(o.Currency),
			Period: calendar.PeriodOf(export.Period), Cut: export.Cut, Meters: page.meters,
		}
	}
	if err := page.readSegments(ctx, tx); err != nil {
		return nil, err
	}
	return page, page.readUsage(ctx, tx)
}

func (p *ratingPage) readSegments(ctx context.Context, tx scoped) error {
	segments, err := tx.SegmentsOf(ctx, p.organizations, p.export.ID)
	for _, s := range segments {
		period := p.periods[s.OrganizationID]
		period.Segments = append(period.Segments, billing.Segment{
			Start: s.StartAt.UTC(), End: s.EndAt.UTC(), Plan: plans.Plan{Key: s.Plan, Version: int(s.PlanVersion)},
		})
	}
	return err
}

// readUsage takes the totals where there is one segment, and the segments' own usage
// where there are more.
func (p *ratingPage) readUsage(ctx context.Context, tx scoped) error {
	totals, err := tx.AccountUsage(ctx, p.organizations, p.export.ID)
	if err != nil {
		return err
	}
	for _, u := range totals {
		period := p.periods[u.OrganizationID]
		if len(period.Segments) != 1 {
			continue
		}
		used, err := segmentUsageOf(u.Meter, u.Value, u.UnitSeconds)
		if err != nil {
			return err
		}
		period.Segments[0].Usage = append(period.Segments[0].Usage, used)
	}
	return readSegmentUsage(ctx, tx, p.export.ID, p.export.ID, p.organizations, p.periods)
}

func readSegmentUsage(ctx context.Context, tx scoped, id, of uuid.UUID, organizations []uuid.UUID, periods map[uuid.UUID]*billing.OrganizationPeriod) error {
	usage, err := tx.SegmentUsageOf(ctx, organizations, id, of)
	if err != nil {
		return err
	}
	for _, u := range usage {
		used, err := segmentUsageOf(u.Meter, u.Value, u.UnitSeconds)
		if err != nil {
			return err
		}
		period := periods[u.OrganizationID]
		for i := range period.Segments {
			if period.Segments[i].Start.Equal(u.StartAt) {
				period.Segments[i].Usage = append(period.Segments[i].Usage, used)
			}
		}
	}
	return nil
}

func segmentUsageOf(meter string, value int64, unitSeconds string) (billing.SegmentUsage, error) {
	out := billing.SegmentUsage{Meter: meter, Value: value}
	if unitSeconds == "" {
		return out, nil
	}
	var err error
	if out.UnitSeconds, err = decimal.NewFromString(unitSeconds); err != nil {
		return out, fmt.Errorf("unit-seconds of %s: %w", meter, err)
	}
	return out, nil
}

// ratables adds the closed periods that are corrected, and credits.
func (p *ratingPage) ratables(ctx context.Context, tx scoped) ([]billing.Ratable, error) {
	closed, err := p.closed(ctx, tx)
	if err != nil {
		return nil, err
	}
	credits, err := exportCredits(ctx, tx, p.export.ID, p.organizations)
	if err != nil {
		return nil, err
	}
	out := make([]billing.Ratable, len(p.organizations))
	for i, id := range p.organizations {
		out[i] = billing.Ratable{OrganizationPeriod: *p.periods[id], Closed: closed[id], Credits: credits[id]}
	}
	return out, nil
}

func (p *ratingPage) closed(ctx context.Context, tx scoped) (map[uuid.UUID][]billing.ClosedPeriod, error) {
	rows, err := tx.CorrectionsOf(ctx, p.organizations, p.export.ID)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	issued, err := tx.IssuedCorrections(ctx, p.organizations, p.export.ID, p.export.Period)
	if err != nil {
		return nil, err
	}
	corrections := map[uuid.UUID][]billing.Statement{}
	for _, row := range issued {
		s, err := statement(row.Document, "", "")
		if err != nil {
			return nil, fmt.Errorf("organization %s: %w", row.OrganizationID, err)
		}
		corrections[row.OrganizationID] = append(corrections[row.OrganizationID], s)
	}
	closed := map[uuid.UUID]*ratingPage{}
	billed := map[[2]uuid.UUID][]billing.Billed{}
	for _, row := range rows {
		period, of, err := p.closedPeriod(row, corrections[row.OrganizationID])
		if err != nil {
			return nil, err
		}
		page := closed[row.CorrectedID]
		if page == nil {
			page = &ratingPage{export: db.Export{ID: row.CorrectedID}, periods: map[uuid.UUID]*billing.OrganizationPeriod{}}
			closed[row.CorrectedID] = page
		}
		page.organizations = append(page.organizations, row.OrganizationID)
		page.periods[row.OrganizationID] = &period
		billed[[2]uuid.UUID{row.CorrectedID, row.OrganizationID}] = of
	}
	for id, page := range closed {
		if err := page.readSegments(ctx, tx); err != nil {
			return nil, err
		}
		if err := readSegmentUsage(ctx, tx, p.export.ID, id, page.organizations, page.periods); err != nil {
			return nil, err
		}
	}
	// The rows have each organization's periods in their order.
	out := map[uuid.UUID][]billing.ClosedPeriod{}
	for _, row := range rows {
		out[row.OrganizationID] = append(out[row.OrganizationID], billing.ClosedPeriod{
			OrganizationPeriod: *closed[row.CorrectedID].periods[row.OrganizationID], Billed: billed[[2]uuid.UUID{row.CorrectedID, row.OrganizationID}],
		})
	}
	return out, nil
}

// closedPeriod returns a closed period, without segments, and what was
// billed for it.
func (p *ratingPage) closedPeriod(row db.CorrectionsOfRow, corrections []billing.Statement) (billing.OrganizationPeriod, []billing.Billed, error) {
	period := *p.periods[row.OrganizationID]
	period.Period, period.Cut, period.Segments = calendar.PeriodOf(row.Period), row.Cut, nil
	var billed []billing.Billed
	if row.Document != "" {
		s, err := statement(row.Document, "", "")
		if err != nil {
			return period, nil, fmt.Errorf("organization %s: %w", row.OrganizationID, err)
		}
		period.Currency, billed = s.Currency, s.BilledBy()
	}
	for _, s := range corrections {
		billed = append(billed, s.CorrectionsOf(period.Period)...)
	}
	return period, billed, nil
}

// PutStatements keeps the drafts of a page in place of any that were there, with what
// they are to take of credits, and parks what could not be rated. An export whose statements are issued is
// [billing.ErrExportEnded].
func (s *Store) PutStatements(ctx context.Context, id uuid.UUID, page billing.RatedPage) error {
	rows, err := newStatementRows(page.Statements)
	if err != nil {
		return wrap(err, "keep the statements of export %s", id)
	}
	err = s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) error {
		export, err := frozenExport(ctx, tx, id)
		if err != nil {
			return err
		}
		if export.IssuedAt != nil || billing.Stage(export.Stage).Ended() {
			return billing.ErrExportEnded
		}
		if err := tx.ForgetCounts(ctx, id); err != nil {
			return err
		}
		first, last := ends(page.Organizations)
		err = tx.DeleteStatements(ctx, db.DeleteStatementsParams{ExportID: id, Organizations: page.Organizations, First: first, Last: last})
		if err != nil {
			return err
		}
		first, last = ends(rows.organizations)
		err = tx.Unpark(ctx, db.UnparkParams{ExportID: id, Organizations: rows.organizations, First: first, Last: last})
		if err != nil {
			return err
		}
		for _, p := range page.Parked {
			if err := tx.Park(ctx, id, p.Organization, p.Reason); err != nil {
				return err
			}
		}
		if err := rows.credited.plan(ctx, tx, id, page.Organizations); err != nil {
			return err
		}
		return rows.insert(ctx, tx, id)
	})
	return wrap(err, "keep the statements of export %s", id)
}

// statementRows are statements in columns: COPY doesn't go with row-level security, and
// arrays are almost as fast.
type statementRows struct {
	organizations            []uuid.UUID
	currencies, documents    []string
	subtotals, credits, dues []pgtype.Numeric
	lines                    []int32
	corrects                 []bool
	credited                 creditUses
}

func newStatementRows(statements []billing.Statement) (*statementRows, error) {
	r := &statementRows{}
	for _, s := range statements {
		s.Number, s.Replaces = "", ""
		document, err := json.Marshal(s)
		if err != nil {
			return nil, err
		}
		r.organizations = append(r.organizations, s.Organization)
		r.currencies = append(r.currencies, string(s.Currency))
		r.documents = append(r.documents, string(document))
		r.subtotals = append(r.subtotals, numeric(s.Subtotal.Decimal))
		r.credits = append(r.credits, numeric(s.Credits.Decimal))
		r.dues = append(r.dues, numeric(s.Due.Decimal))
		r.lines = append(r.lines, int32(len(s.Lines)))
		r.corrects = append(r.corrects, s.HasCorrections())
		r.credited.add(s.Organization, s.CreditUses())
	}
	return r, nil
}

func (r *statementRows) insert(ctx context.Context, tx scoped, id uuid.UUID) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO statements (export_id, organization_id, currency, subtotal, credits, due, line_count, corrects, document)
		SELECT $1::uuid, * FROM unnest($2::uuid[], $3::text[], $4::numeric[], $5::numeric[], $6::numeric[], $7::int4[], $8::bool[], $9::text[])`,
		id, r.organizations, r.currencies, r.subtotals, r.credits, r.dues, r.lines, r.corrects, r.documents)
	return err
}

// RatingCounts says how far the rating of an export is.
func (s *Store) RatingCounts(ctx context.Context, id uuid.UUID) (billing.RatingCounts, error) {
	var out billing.RatingCounts
	err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) error {
		kept, err := tx.KeptCounts(ctx, id)
		switch {
		case err == nil:
			err = json.Unmarshal(kept, &out)
		case errors.Is(err, pgx.ErrNoRows):
			out, err = countRated(ctx, tx, id)
		}
		if err != nil {
			return err
		}
		out.MissingBatches, err = tx.MissingBatchesOf(ctx, id)
		return err
	})
	return out, wrap(err, "count what export %s rated", id)
}

func countRated(ctx context.Context, tx scoped, id uuid.UUID) (billing.RatingCounts, error) {
	c, err := tx.RatingCounts(ctx, id)
	return billing.RatingCounts{Organizations: c.Organizations, Statements: c.Statements, Parked: c.Parked, Variances: c.Variances}, err
}

// keepCounts counts what an export has, for all who look at it until its organizations are rated again.
func keepCounts(ctx context.Context, tx scoped, id uuid.UUID) error {
	counts, err := countRated(ctx, tx, id)
	if err != nil {
		return err
	}
	document, err := json.Marshal(counts)
	if err != nil {
		return err
	}
	return tx.KeepCounts(ctx, id, document)
}
