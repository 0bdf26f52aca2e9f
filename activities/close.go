package activities

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/plans"
)

// CloseStore keeps what is rated, reviewed and issued.
type CloseStore interface {
	// ReopenExport adds a run that is the next revision of a closed period.
	ReopenExport(ctx context.Context, e billing.Export) (billing.Export, error)
	// RatingPages divides the organizations of an export, and returns the last of each page.
	RatingPages(ctx context.Context, id uuid.UUID, size int) ([]uuid.UUID, error)
	// Ratables returns the next organizations in (after, until] with their frozen usage.
	Ratables(ctx context.Context, id, after, until uuid.UUID, limit int) ([]billing.Ratable, error)
	// PutStatements keeps the drafts of a page, and parks what could not be rated.
	PutStatements(ctx context.Context, id uuid.UUID, page billing.RatedPage) error
	// RatingCounts says how far the rating is.
	RatingCounts(ctx context.Context, id uuid.UUID) (billing.RatingCounts, error)
	// Parked returns the next organizations that could not be rated.
	Parked(ctx context.Context, id, after uuid.UUID, limit int) ([]billing.ParkedOrganization, error)
	// NumberStatements gives the drafts their numbers, without a gap.
	NumberStatements(ctx context.Context, id uuid.UUID) error
	// Statements returns the next statements.
	Statements(ctx context.Context, id, after uuid.UUID, limit int) ([]billing.Statement, error)
	// MoneyTotals adds up the statements by currency.
	MoneyTotals(ctx context.Context, id uuid.UUID) ([]billing.MoneyTotal, error)
	// PutManifest keeps the manifest of the drafts.
	PutManifest(ctx context.Context, id uuid.UUID, manifest billing.Manifest) error
	// ReviewVariances keeps which statements differ from those before, and counts them.
	ReviewVariances(ctx context.Context, id uuid.UUID, threshold billing.VarianceThreshold) (int64, error)
	// RecordDecision adds to the audit trail, once for each ID.
	RecordDecision(ctx context.Context, id uuid.UUID, d billing.ExportDecision) error
	// IssueExport makes the statements final, all or none.
	IssueExport(ctx context.Context, id uuid.UUID) error
	// CompleteExport ends a run with the manifest that is kept: closed where its
	// statements are issued, else done.
	CompleteExport(ctx context.Context, id uuid.UUID) error
	// FreezeExport returns the batch marks of an export that is frozen.
	FreezeExport(ctx context.Context, id uuid.UUID) ([]billing.BatchMark, error)
	// ExportCatalog returns the frozen meters of an export and the plan versions by which it rates.
	ExportCatalog(ctx context.Context, id uuid.UUID) (*plans.Catalog, error)
	// Catalog returns the catalog with all versions of its plans.
	Catalog(ctx context.Context) (*plans.Catalog, error)
}

// CloseConfig is what a [Close] is made from.
type CloseConfig struct {
	// Store keeps the statements. Required.
	Store CloseStore
	// Blobs keeps the files. Required.
	Blobs Blobs
	// Program is the version of the program, for the manifest. Required.
	Program string
	// BatchSize is how many organizations are rated in one transaction. Zero: 500.
	BatchSize int
}

// Close has the activities of the close, from rating on.
type Close struct{ config CloseConfig }

// NewClose makes the activities of the close. It panics where a required field of the
// config is missing.
func NewClose(config CloseConfig) *Close {
	if config.Store == nil || config.Blobs == nil || config.Program == "" {
		panic("activities: CloseConfig.Store, Blobs and Program are required")
	}
	if config.BatchSize == 0 {
		config.BatchSize = 500
	}
	return &Close{config: config}
}

// ReopenExport records that the workflow's run is the next revision of a closed period.
func (c *Close) ReopenExport(ctx context.Context, in BeginExportInput) (BegunExport, error) {
	e, err := exportOf(ctx, in)
	if err != nil {
		return BegunExport{}, err
	}
	begun, err := c.config.Store.ReopenExport(ctx, e)
	return begunExport(begun, false), classify(err)
}

// PlanRatingInput says which export is rated.
type PlanRatingInput struct {
	ID uuid.UUID `json:"id"`
	// PageSize is how many organizations one page has; pages are at most [MaxPages].
	PageSize int `json:"page_size"`
}

// MaxPages is the most pages that one export is rated in: the workflow's history stays
// small, however many organizations there are.
const MaxPages = 400

// PlanRatingResult holds the pages.
type PlanRatingResult struct {
	// Until holds the last organization of each page, in their order.
	Until []uuid.UUID `json:"until"`
}

// PlanRating divides the organizations of an export into pages.
func (c *Close) PlanRating(ctx context.Context, in PlanRatingInput) (PlanRatingResult, error) {
	beats := startBeating(ctx, nil)
	defer beats.stop()
	counts, err := c.config.Store.RatingCounts(ctx, in.ID)
	if err != nil {
		return PlanRatingResult{}, classify(err)
	}
	size := max(in.PageSize, int((counts.Organizations+MaxPages-1)/MaxPages), 1)
	until, err := c.config.Store.RatingPages(ctx, in.ID, size)
	return PlanRatingResult{Until: until}, classify(err)
}

// RateOrganizationsInput names a page of organizations: those in (After, Until].
type RateOrganizationsInput struct {
	ID    uuid.UUID `json:"id"`
	After uuid.UUID `json:"after"`
	Until uuid.UUID `json:"until"`
}

// RateOrganizationsResult counts what came of a page.
type RateOrganizationsResult struct {
	Rated  int64 `json:"rated"`
	Parked int64 `json:"parked"`
}

// RateHeartbeat is what [Close.RateOrganizations] heartbeats: another attempt goes on after
// the organization, with the counts.
type RateHeartbeat struct {
	After  uuid.UUID               `json:"after"`
	Counts RateOrganizationsResult `json:"counts"`
}

// RateOrganizations makes the draft statements of a page. An organization that can't be rated is
// parked, and the others go on. Tried again, it goes on where the last attempt
// stopped; a part that is rated twice is kept once.
func (c *Close) RateOrganizations(ctx context.Context, in RateOrganizationsInput) (RateOrganizationsResult, error) {
	at := resume(ctx, RateHeartbeat{After: in.After})
	beats := startBeating(ctx, at)
	defer beats.stop()
	catalog, err := c.config.Store.Catalog(ctx)
	if err != nil {
		return at.Counts, classify(err)
	}
	for {
		batch, err := c.config.Store.Ratables(ctx, in.ID, at.After, in.Until, c.config.BatchSize)
		if err != nil || len(batch) == 0 {
			return at.Counts, classify(err)
		}
		page, err := rate(batch, catalog)
		if err == nil {
			err = c.config.Store.PutStatements(ctx, in.ID, page)
		}
		if err != nil {
			return at.Counts, classify(err)
		}
		at.After = batch[len(batch)-1].OrganizationPeriod.Organization
		at.Counts.Rated += int64(len(page.Statements))
		at.Counts.Parked += int64(len(page.Parked))
		beats.record(at)
		if err := mayGoOn(ctx); err != nil {
			return at.Counts, err
		}
	}
}

func rate(batch []billing.Ratable, catalog *plans.Catalog) (billing.RatedPage, error) {
	var page billing.RatedPage
	for _, r := range batch {
		id := r.OrganizationPeriod.Organization
		page.Organizations = append(page.Organizations, id)
		statement, err := billing.Rate(r, catalog)
		switch {
		case errors.Is(err, billing.ErrCannotRate):
			page.Parked = append(page.Parked, billing.ParkedOrganization{Organization: id, Reason: err.Error()})
		case err != nil:
			return page, err
		default:
			page.Statements = append(page.Statements, statement)
		}
	}
	return page, nil
}

// RetryParkedInput says whose parked organizations are tried again.
type RetryParkedInput struct {
	ID uuid.UUID `json:"id"`
}

// RetryParked rates what was parked again, each organization alone.
func (c *Close) RetryParked(ctx context.Context, in RetryParkedInput) (RateOrganizationsResult, error) {
	beats := startBeating(ctx, nil)
	defer beats.stop()
	var out RateOrganizationsResult
	catalog, err := c.config.Store.Catalog(ctx)
	if err != nil {
		return out, classify(err)
	}
	var after uuid.UUID
	for {
		parked, err := c.config.Store.Parked(ctx, in.ID, after, c.config.BatchSize)
		if err != nil || len(parked) == 0 {
			return out, classify(err)
		}
		for _, p := range parked {
			after = p.Organization
			if err := c.rateOne(ctx, in.ID, p.Organization, catalog, &out); err != nil {
				return out, classify(err)
			}
		}
		if err := mayGoOn(ctx); err != nil {
			return out, err
		}
	}
}

func (c *Close) rateOne(ctx context.Context, id, organization uuid.UUID, catalog *plans.Catalog, out *RateOrganizationsResult) error {
	batch, err := c.config.Store.Ratables(ctx, id, before(organization), organization, 1)
	if err != nil {
		return err
	}
	page, err := rate(batch, catalog)
	if err != nil {
		return err
	}
	out.Rated += int64(len(page.Statements))
	out.Parked += int64(len(page.Parked))
	return c.config.Store.PutStatements(ctx, id, page)
}

// before returns the ID that comes right before another one.
func before(id uuid.UUID) uuid.UUID {
	for i := len(id) - 1; i >= 0; i-- {
		id[i]--
		if id[i] != 0xff {
			break
		}
	}
	return id
}

// ReviewVariancesInput says what is compared.
type ReviewVariancesInput struct {
	ID        uuid.UUID                 `json:"id"`
	Threshold billing.VarianceThreshold `json:"threshold"`
}

// ReviewVariancesResult counts what differs, and what is parked.
type ReviewVariancesResult struct {
	Counts billing.RatingCounts `json:"counts"`
}

// ReviewVariances compares the statements with those of the period before.
func (c *Close) ReviewVariances(ctx context.Context, in ReviewVariancesInput) (ReviewVariancesResult, error) {
	beats := startBeating(ctx, nil)
	defer beats.stop()
	if _, err := c.config.Store.ReviewVariances(ctx, in.ID, in.Threshold); err != nil {
		return ReviewVariancesResult{}, classify(err)
	}
	counts, err := c.config.Store.RatingCounts(ctx, in.ID)
	return ReviewVariancesResult{Counts: counts}, classify(err)
}

// RecordDecisionInput is a row of the audit trail.
type RecordDecisionInput struct {
	Export uuid.UUID `json:"export"`
	// ID makes recording idempotent.
	ID       uuid.UUID              `json:"id"`
	Decision billing.ExportDecision `json:"decision"`
}

// RecordDecision adds a row to the audit trail.
func (c *Close) RecordDecision(ctx context.Context, in RecordDecisionInput) error {
	in.Decision.ID = in.ID
	return classify(c.config.Store.RecordDecision(ctx, in.Export, in.Decision))
}

// IssueStatementsInput says what is issued.
type IssueStatementsInput struct {
	ID uuid.UUID `json:"id"`
}

// IssueStatements makes the statements of an export final, all or none.
func (c *Close) IssueStatements(ctx context.Context, in IssueStatementsInput) error {
	beats := startBeating(ctx, nil)
	defer beats.stop()
	return classify(c.config.Store.IssueExport(ctx, in.ID))
}

// CompleteExportInput says which run ends.
type CompleteExportInput struct {
	ID uuid.UUID `json:"id"`
}

// CompleteExport ends a run: closed where its statements are issued, else done.
func (c *Close) CompleteExport(ctx context.Context, in CompleteExportInput) error {
	return classify(c.config.Store.CompleteExport(ctx, in.ID))
}

// exportOf is the export that an input begins.
func exportOf(ctx context.Context, in BeginExportInput) (billing.Export, error) {
	if in.Period.IsZero() {
		return billing.Export{}, missing("period")
	}
	id, err := uuid.NewV7()
	if err != nil {
		return billing.Export{}, fmt.Errorf("make an id: %w", err)
	}
	execution := activity.GetInfo(ctx).WorkflowExecution
	return billing.Export{
		ID: id, Period: in.Period, WorkflowID: execution.ID, RunID: execution.RunID,
		Stage: billing.StageWaiting, Cut: in.Cut, Provisional: in.Provisional,
		RequestedBy: in.RequestedBy, RequestedByID: in.RequestedByID, RequestedAt: in.RequestedAt, Reason: in.Reason,
	}, nil
}

func begunExport(e billing.Export, final bool) BegunExport {
	out := BegunExport{
		ID: e.ID, Period: e.Period, Stage: e.Stage, Cut: e.Cut.UTC(), Provisional: e.Provisional, Revision: e.Revision,
		Final: final,
	}
	if e.ID != uuid.Nil {
		out.Folder = e.Folder()
	}
	if final && e.Manifest != nil {
		out.Files, out.Totals = e.Manifest.Files, e.Manifest.Totals
	}
	return out
}
