package activities

import (
	"context"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/billing"
)

// ExportDecisionStore keeps what is reviewed, decided and issued.
type ExportDecisionStore interface {
	// ReviewVariances keeps which statements differ from those before, and counts them.
	ReviewVariances(ctx context.Context, id uuid.UUID, threshold billing.VarianceThreshold) (int64, error)
	// RecordDecision adds to the audit trail, once for each ID.
	RecordDecision(ctx context.Context, id uuid.UUID, d billing.ExportDecision) error
	// IssueExport makes the statements final, all or none.
	IssueExport(ctx context.Context, id uuid.UUID) error
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
func (e *Export) ReviewVariances(ctx context.Context, in ReviewVariancesInput) (ReviewVariancesResult, error) {
	beats := startBeating(ctx, nil)
	defer beats.stop()
	if _, err := e.config.Store.ReviewVariances(ctx, in.ID, in.Threshold); err != nil {
		return ReviewVariancesResult{}, classify(err)
	}
	counts, err := e.config.Store.RatingCounts(ctx, in.ID)
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
func (e *Export) RecordDecision(ctx context.Context, in RecordDecisionInput) error {
	in.Decision.ID = in.ID
	return classify(e.config.Store.RecordDecision(ctx, in.Export, in.Decision))
}

// IssueStatementsInput says what is issued.
type IssueStatementsInput struct {
	ID uuid.UUID `json:"id"`
}

// IssueStatements makes the statements of an export final, all or none.
func (e *Export) IssueStatements(ctx context.Context, in IssueStatementsInput) error {
	beats := startBeating(ctx, nil)
	defer beats.stop()
	return classify(e.config.Store.IssueExport(ctx, in.ID))
}
