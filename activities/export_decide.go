package activities

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
)

// ExportDecisionStore keeps what is reviewed, decided and issued.
type ExportDecisionStore interface {
	// ReviewVariances keeps which statements differ from those before, and counts them.
	ReviewVariances(ctx context.Context, id uuid.UUID, threshold billing.VarianceThreshold) (int64, error)
	// RecordDecision adds to the audit trail, once for each ID. It is [accounts.ErrNoActor] where
	// who decides has no key of that name, [accounts.ErrSecondPerson] where it takes another, and
	// [billing.ErrDecidedBefore] where the ID is that of a decision on another export.
	RecordDecision(ctx context.Context, id uuid.UUID, d billing.ExportDecision) error
	// RemindOfExport tells others that an export waits for finance, once for each wait and number.
	RemindOfExport(ctx context.Context, id uuid.UUID, r billing.Reminder) error
	// Decisions returns the audit trail, oldest first.
	Decisions(ctx context.Context, id uuid.UUID) ([]billing.ExportDecision, error)
	// ExportToIssue returns an export, with its manifest.
	ExportToIssue(ctx context.Context, id uuid.UUID) (billing.Export, error)
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
	// OnePerson lets who requested the export approve it, where [ExportConfig.AllowSelfApproval] does.
	OnePerson bool `json:"one_person,omitempty"`
}

// RecordDecision adds a row to the audit trail.
func (e *Export) RecordDecision(ctx context.Context, in RecordDecisionInput) error {
	in.Decision.ID, in.Decision.OnePerson = in.ID, in.OnePerson && e.config.AllowSelfApproval
	return classify(e.config.Store.RecordDecision(ctx, in.Export, in.Decision))
}

// RemindInput says what is waited for, and since when.
type RemindInput struct {
	Export uuid.UUID `json:"export"`
	billing.Reminder
}

// Remind tells others that an export waits for a decision of finance's: by an event, which webhooks
// bring. It may be called again for the same reminder.
func (e *Export) Remind(ctx context.Context, in RemindInput) error {
	if in.Export == uuid.Nil || in.Number < 1 {
		return missing("export or reminder")
	}
	return classify(e.config.Store.RemindOfExport(ctx, in.Export, in.Reminder))
}

// IssueStatementsInput says what is issued.
type IssueStatementsInput struct {
	ID uuid.UUID `json:"id"`
}

// IssueStatements makes the statements of an export final, all or none, and notes in the blob
// store what was issued. Where that says that the numbers are taken, nothing is issued.
func (e *Export) IssueStatements(ctx context.Context, in IssueStatementsInput) error {
	beats := startBeating(ctx, nil)
	defer beats.stop()
	export, err := e.config.Store.ExportToIssue(ctx, in.ID)
	if err != nil {
		return classify(err)
	}
	issued := documents.NewIssued(export)
	if err := e.checkIssued(ctx, issued); err != nil {
		return classify(err)
	}
	if err := e.config.Store.IssueExport(ctx, in.ID); err != nil {
		return classify(err)
	}
	document, err := issued.Encode()
	if err != nil {
		return classify(err)
	}
	return classify(publish(ctx, e.config.Blobs, issued.Name(), func(w io.Writer) error {
		_, err := w.Write(document)
		return err
	}))
}

// maxIssued bounds the note of what was issued, in bytes: it names a few files.
const maxIssued = 1 << 20

// checkIssued looks whether the same numbers were issued before, by an export that a database
// which went back in time doesn't know.
func (e *Export) checkIssued(ctx context.Context, issued documents.Issued) error {
	reader, err := e.config.Blobs.Open(ctx, issued.Name())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for what was issued: %w", err)
	}
	defer func() { _ = reader.Close() }()
	document, err := io.ReadAll(io.LimitReader(reader, maxIssued))
	if err != nil {
		return fmt.Errorf("read what was issued: %w", err)
	}
	return issued.CheckIssued(document)
}
