package activities

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/plans"
)

// ExportRatingStore keeps what is rated.
type ExportRatingStore interface {
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
	// Catalog returns the catalog with all versions of its plans.
	Catalog(ctx context.Context) (*plans.Catalog, error)
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
func (e *Export) PlanRating(ctx context.Context, in PlanRatingInput) (PlanRatingResult, error) {
	beats := startBeating(ctx, nil)
	defer beats.stop()
	counts, err := e.config.Store.RatingCounts(ctx, in.ID)
	if err != nil {
		return PlanRatingResult{}, classify(err)
	}
	size := max(in.PageSize, int((counts.Organizations+MaxPages-1)/MaxPages), 1)
	until, err := e.config.Store.RatingPages(ctx, in.ID, size)
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

// RateHeartbeat is what [Export.RateOrganizations] heartbeats: another attempt goes on after
// the organization, with the counts.
type RateHeartbeat struct {
	After  uuid.UUID               `json:"after"`
	Counts RateOrganizationsResult `json:"counts"`
}

// RateOrganizations makes the draft statements of a page. An organization that can't be rated is
// parked, and the others go on. Tried again, it goes on where the last attempt
// stopped; a part that is rated twice is kept once.
func (e *Export) RateOrganizations(ctx context.Context, in RateOrganizationsInput) (RateOrganizationsResult, error) {
	at := resume(ctx, RateHeartbeat{After: in.After})
	beats := startBeating(ctx, at)
	defer beats.stop()
	catalog, err := e.config.Store.Catalog(ctx)
	if err != nil {
		return at.Counts, classify(err)
	}
	for {
		batch, err := e.config.Store.Ratables(ctx, in.ID, at.After, in.Until, e.config.BatchSize)
		if err != nil || len(batch) == 0 {
			return at.Counts, classify(err)
		}
		page, err := rate(batch, catalog)
		if err == nil {
			err = e.config.Store.PutStatements(ctx, in.ID, page)
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
func (e *Export) RetryParked(ctx context.Context, in RetryParkedInput) (RateOrganizationsResult, error) {
	beats := startBeating(ctx, nil)
	defer beats.stop()
	var out RateOrganizationsResult
	catalog, err := e.config.Store.Catalog(ctx)
	if err != nil {
		return out, classify(err)
	}
	var after uuid.UUID
	for {
		parked, err := e.config.Store.Parked(ctx, in.ID, after, e.config.BatchSize)
		if err != nil || len(parked) == 0 {
			return out, classify(err)
		}
		for _, p := range parked {
			after = p.Organization
			if err := e.rateOne(ctx, in.ID, p.Organization, catalog, &out); err != nil {
				return out, classify(err)
			}
		}
		if err := mayGoOn(ctx); err != nil {
			return out, err
		}
	}
}

func (e *Export) rateOne(ctx context.Context, id, organization uuid.UUID, catalog *plans.Catalog, out *RateOrganizationsResult) error {
	batch, err := e.config.Store.Ratables(ctx, id, before(organization), organization, 1)
	if err != nil {
		return err
	}
	page, err := rate(batch, catalog)
	if err != nil {
		return err
	}
	out.Rated += int64(len(page.Statements))
	out.Parked += int64(len(page.Parked))
	return e.config.Store.PutStatements(ctx, id, page)
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
