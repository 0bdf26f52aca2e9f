package api

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/sinks"
)

// CloseStore has what finance reviews of an export.
type CloseStore interface {
	// ExportRevision returns a revision of the period's export, or [billing.ErrExportNotFound].
	ExportRevision(ctx context.Context, period calendar.Period, revision int) (billing.Export, error)
	// ExportOfDecision returns the export that a decision or a request of that ID was about, as it is
	// now, or [billing.ErrExportNotFound].
	ExportOfDecision(ctx context.Context, id uuid.UUID) (billing.Export, error)
	// CheckReopen is [billing.ErrLaterPeriodClosed] where a period after this one is closed.
	CheckReopen(ctx context.Context, period calendar.Period) error
	// RatingCounts says how many organizations were rated, parked and differ.
	RatingCounts(ctx context.Context, id uuid.UUID) (billing.RatingCounts, error)
	// Variances returns the statements that differ from those before, the largest difference first:
	// those after an organization's, or all for the zero ID.
	Variances(ctx context.Context, id, after uuid.UUID, limit int) ([]billing.StatementVariance, error)
	// Parked returns organizations that could not be rated.
	Parked(ctx context.Context, id, after uuid.UUID, limit int) ([]billing.ParkedOrganization, error)
	// Decisions returns the audit trail, oldest first.
	Decisions(ctx context.Context, id uuid.UUID) ([]billing.ExportDecision, error)
	// Corrections returns statements that correct closed periods.
	Corrections(ctx context.Context, id, after uuid.UUID, limit int) ([]billing.Statement, error)
	// Statement returns one statement, or [billing.ErrStatementNotFound].
	Statement(ctx context.Context, id, organization uuid.UUID) (billing.Statement, error)
	// StatementDeliveries returns what became of the next organizations' statements in a sink;
	// an empty state means each.
	StatementDeliveries(ctx context.Context, id uuid.UUID, sink string, state sinks.State, after uuid.UUID, limit int) ([]sinks.Delivery, error)
	// StatementDeliveryCounts counts the states of organizations in (after, until].
	StatementDeliveryCounts(ctx context.Context, id uuid.UUID, sink string, after, until uuid.UUID) (sinks.Counts, error)
	// MoneyTotals adds up the statements by currency, and UsageControlTotals the usage by meter.
	MoneyTotals(ctx context.Context, id uuid.UUID) ([]billing.MoneyTotal, error)
	UsageControlTotals(ctx context.Context, id uuid.UUID) ([]billing.ControlTotal, error)
	// BilledPeriods returns the next organizations with what they used and were billed, at
	// most limit of them with IDs after `after`; BilledPeriod returns one, or none.
	BilledPeriods(ctx context.Context, id, after uuid.UUID, limit int) ([]billing.BilledPeriod, error)
	BilledPeriod(ctx context.Context, id, organization uuid.UUID) ([]billing.BilledPeriod, error)
}

// ExportRequest says what is exported, and by whom.
type ExportRequest struct {
	// ID is the same where the same request is sent again, by its Idempotency-Key. [uuid.Nil]: it is
	// another request.
	ID     uuid.UUID
	Period calendar.Period
	Actor  billing.Actor
	// Reopen starts the next revision of a closed period; Reason says why.
	Reopen bool
	Reason string
	// Variance and Documents are the caller's; zero values mean the defaults.
	Variance  billing.VarianceThreshold
	Documents documents.Options
}

// ExportDecision is a decision on an export that waits for one.
type ExportDecision struct {
	// ID is the same where the same decision is sent again, by its Idempotency-Key: then it is the first
	// one's answer. [uuid.Nil]: it is another decision.
	ID            uuid.UUID
	Period        calendar.Period
	Action        billing.Action
	Actor         billing.Actor
	Note          string
	WithoutParked bool
}

// RefusedDecision says that a decision may not be. Its code is one of those below.
type RefusedDecision struct {
	Code    string
	Message string
}

// Error returns the message.
func (e *RefusedDecision) Error() string { return e.Message }

// The codes of [RefusedDecision].
const (
	CodeSelfApproval = "self_approval"
	CodeNotReviewed  = "variances_not_reviewed"
	CodeParked       = "organizations_parked"
	CodeNotAwaiting  = "not_awaiting_decision"
	CodeNoActor      = "unknown_actor"
	CodeInvalid      = codeInvalidRequest
)

func actorOf(ctx context.Context) billing.Actor {
	caller := principalOf(ctx)
	return billing.Actor{ID: caller.key, Name: caller.name}
}

// ReviewExport accepts the variances.
func (s *Server) ReviewExport(ctx context.Context, request gen.ReviewExportRequestObject) (gen.ReviewExportResponseObject, error) {
	out, err := s.decide(ctx, request.Period, billing.ActionReviewed, *request.Body)
	return gen.ReviewExport200JSONResponse{Body: out}, err
}

// ApproveExport approves.
func (s *Server) ApproveExport(ctx context.Context, request gen.ApproveExportRequestObject) (gen.ApproveExportResponseObject, error) {
	out, err := s.decide(ctx, request.Period, billing.ActionApproved, *request.Body)
	return gen.ApproveExport200JSONResponse{Body: out}, err
}

// RejectExport rejects.
func (s *Server) RejectExport(ctx context.Context, request gen.RejectExportRequestObject) (gen.RejectExportResponseObject, error) {
	out, err := s.decide(ctx, request.Period, billing.ActionRejected, *request.Body)
	return gen.RejectExport200JSONResponse{Body: out}, err
}

// CancelExport cancels.
func (s *Server) CancelExport(ctx context.Context, request gen.CancelExportRequestObject) (gen.CancelExportResponseObject, error) {
	out, err := s.decide(ctx, request.Period, billing.ActionCanceled, *request.Body)
	return gen.CancelExport200JSONResponse{Body: out}, err
}

// ContinueExport has a run go on without the instances that it waits for.
func (s *Server) ContinueExport(ctx context.Context, request gen.ContinueExportRequestObject) (gen.ContinueExportResponseObject, error) {
	out, err := s.decide(ctx, request.Period, billing.ActionContinued, *request.Body)
	return gen.ContinueExport200JSONResponse{Body: out}, err
}

// RetryExport has what is parked rated again.
func (s *Server) RetryExport(ctx context.Context, request gen.RetryExportRequestObject) (gen.RetryExportResponseObject, error) {
	out, err := s.decide(ctx, request.Period, billing.ActionRetried, *request.Body)
	return gen.RetryExport200JSONResponse{Body: out}, err
}

func (s *Server) decide(ctx context.Context, text string, action billing.Action, body gen.Decide) (gen.Decided, error) {
	ctx = requestContext(ctx)
	period, err := periodOf(text)
	if err != nil {
		return gen.Decided{}, err
	}
	d := ExportDecision{ID: writeIDOf(ctx), Period: period, Action: action, Actor: actorOf(ctx)}
	if body.Note != nil {
		d.Note = *body.Note
	}
	if body.WithoutParked != nil {
		d.WithoutParked = *body.WithoutParked
	}
	needed := action != billing.ActionApproved && action != billing.ActionRetried
	if err := checkNote(d.Note, needed); err != nil {
		return gen.Decided{}, err
	}
	if d.WithoutParked && action != billing.ActionApproved {
		return gen.Decided{}, invalid("without_parked", "may be given to approve alone")
	}
	ctx, cancel := context.WithTimeout(ctx, quick)
	defer cancel()
	before, made, err := s.madeBefore(ctx, d.ID)
	if err != nil {
		return gen.Decided{}, err
	}
	if made {
		return gen.Decided{Period: period.String(), Stage: before.Stage, StatusUrl: exportPath(period)}, nil
	}
	stage, err := s.config.Workflows.Decide(ctx, d)
	if errors.Is(err, ErrNotRunning) {
		return gen.Decided{}, s.whyNotRunning(ctx, period, err)
	}
	if err != nil {
		return gen.Decided{}, err
	}
	return gen.Decided{Period: period.String(), Stage: stage, StatusUrl: exportPath(period)}, nil
}

// madeBefore finds the export of a request whose answer was lost: Temporal knows it within the run
// that took it, and another run of the month may be open by the time that it is sent again.
func (s *Server) madeBefore(ctx context.Context, id uuid.UUID) (e billing.Export, made bool, err error) {
	if id == uuid.Nil {
		return billing.Export{}, false, nil
	}
	e, err = s.config.Store.ExportOfDecision(ctx, id)
	if errors.Is(err, billing.ErrExportNotFound) {
		return billing.Export{}, false, nil
	}
	return e, err == nil, err
}

// whyNotRunning says why no run can be told of a decision: there is no export of the
// period, or it has ended.
func (s *Server) whyNotRunning(ctx context.Context, period calendar.Period, notRunning error) error {
	found, err := s.config.Store.Export(ctx, period)
	switch {
	case err != nil:
		return err
	case found.Stage.Ended():
		return notAwaiting(found, "nothing can be decided any more")
	default:
		return notRunning
	}
}

func checkNote(note string, required bool) error {
	if utf8.RuneCountInString(note) > billing.MaxNote {
		return invalid("note", "must have at most %d characters", billing.MaxNote)
	}
	if required && accounts.IsBlank(note) {
		return invalid("note", "must say why, in 1 to %d characters", billing.MaxNote)
	}
	return nil
}

func notAwaiting(e billing.Export, rule string) error {
	return &RefusedDecision{Code: CodeNotAwaiting, Message: fmt.Sprintf("the export of %s is %s: %s", e.Period, e.Stage, rule)}
}

// ReopenExport starts the next revision of a closed period.
func (s *Server) ReopenExport(ctx context.Context, request gen.ReopenExportRequestObject) (gen.ReopenExportResponseObject, error) {
	ctx = requestContext(ctx)
	if err := checkNote(request.Body.Note, true); err != nil {
		return nil, err
	}
	period, err := periodOf(request.Period)
	if err != nil {
		return nil, err
	}
	start := ExportRequest{Period: period, Reopen: true, Reason: request.Body.Note}
	started, err := s.startExport(ctx, start, request.Body.Variance, request.Body.Documents)
	return gen.ReopenExport202JSONResponse{Body: started}, err
}

// mayReopen refuses to open a period again that isn't closed, or on which a later one rests.
func (s *Server) mayReopen(ctx context.Context, period calendar.Period) error {
	found, err := s.config.Store.Export(ctx, period)
	if err != nil {
		return err
	}
	if found.Stage != billing.StageClosed {
		return notAwaiting(found, "only a closed one can be opened again")
	}
	err = s.config.Store.CheckReopen(ctx, period)
	if errors.Is(err, billing.ErrLaterPeriodClosed) {
		return notAwaiting(found, "it can't be opened again, since the corrections of a later closed period rest on it")
	}
	return err
}

// exportOf finds a period's export, or a revision of it.
func (s *Server) exportOf(ctx context.Context, text string, revision *int) (billing.Export, error) {
	period, err := periodOf(text)
	if err != nil {
		return billing.Export{}, err
	}
	if revision == nil {
		return s.config.Store.Export(ctx, period)
	}
	if *revision < 1 {
		return billing.Export{}, invalid("revision", "must be a whole number of 1 or more")
	}
	return s.config.Store.ExportRevision(ctx, period, *revision)
}

// listOf is [Server.exportOf] for what lists at most a number of things.
func (s *Server) listOf(ctx context.Context, text string, revision, limit *int) (billing.Export, int, error) {
	most, err := pageLimit(limit)
	if err != nil {
		return billing.Export{}, 0, err
	}
	found, err := s.exportOf(ctx, text, revision)
	return found, most, err
}

// ListVariances answers with the statements that differ from those before.
func (s *Server) ListVariances(ctx context.Context, request gen.ListVariancesRequestObject) (gen.ListVariancesResponseObject, error) {
	ctx = requestContext(ctx)
	found, limit, err := s.listOf(ctx, request.Period, request.Params.Revision, request.Params.Limit)
	if err != nil {
		return nil, err
	}
	list, err := readPage(request.Params.After, limit, func(after uuid.UUID, limit int) ([]billing.StatementVariance, error) {
		return s.config.Store.Variances(ctx, found.ID, after, limit)
	}, func(v billing.StatementVariance) uuid.UUID { return v.Organization })
	return gen.ListVariances200JSONResponse{Variances: notNil(list.items), Next: list.next}, err
}

// ListParked answers with the organizations that could not be rated.
func (s *Server) ListParked(ctx context.Context, request gen.ListParkedRequestObject) (gen.ListParkedResponseObject, error) {
	ctx = requestContext(ctx)
	found, limit, err := s.listOf(ctx, request.Period, request.Params.Revision, request.Params.Limit)
	if err != nil {
		return nil, err
	}
	list, err := readPage(request.Params.After, limit, func(after uuid.UUID, limit int) ([]billing.ParkedOrganization, error) {
		return s.config.Store.Parked(ctx, found.ID, after, limit)
	}, func(p billing.ParkedOrganization) uuid.UUID { return p.Organization })
	return gen.ListParked200JSONResponse{Parked: notNil(list.items), Next: list.next}, err
}

// ListDecisions answers with the audit trail.
func (s *Server) ListDecisions(ctx context.Context, request gen.ListDecisionsRequestObject) (gen.ListDecisionsResponseObject, error) {
	ctx = requestContext(ctx)
	found, err := s.exportOf(ctx, request.Period, request.Params.Revision)
	if err != nil {
		return nil, err
	}
	list, err := s.config.Store.Decisions(ctx, found.ID)
	return gen.ListDecisions200JSONResponse{Decisions: notNil(list)}, err
}

// ListCorrections answers with the statements that correct closed periods.
func (s *Server) ListCorrections(ctx context.Context, request gen.ListCorrectionsRequestObject) (gen.ListCorrectionsResponseObject, error) {
	ctx = requestContext(ctx)
	found, limit, err := s.listOf(ctx, request.Period, request.Params.Revision, request.Params.Limit)
	if err != nil {
		return nil, err
	}
	list, err := readPage(request.Params.After, limit, func(after uuid.UUID, limit int) ([]billing.Statement, error) {
		return s.config.Store.Corrections(ctx, found.ID, after, limit)
	}, func(s billing.Statement) uuid.UUID { return s.Organization })
	return gen.ListCorrections200JSONResponse{Statements: notNil(list.items), Next: list.next}, err
}

// GetControlTotals answers with what the database adds up to.
func (s *Server) GetControlTotals(ctx context.Context, request gen.GetControlTotalsRequestObject) (gen.GetControlTotalsResponseObject, error) {
	ctx = requestContext(ctx)
	found, err := s.exportOf(ctx, request.Period, request.Params.Revision)
	if err != nil {
		return nil, err
	}
	usage, err := s.config.Store.UsageControlTotals(ctx, found.ID)
	if err != nil {
		return nil, err
	}
	sums, err := s.config.Store.MoneyTotals(ctx, found.ID)
	return gen.GetControlTotals200JSONResponse{ControlTotals: notNil(usage), MoneyTotals: notNil(sums)}, err
}

// GetStatement answers with a statement and its arithmetic.
func (s *Server) GetStatement(ctx context.Context, request gen.GetStatementRequestObject) (gen.GetStatementResponseObject, error) {
	ctx = requestContext(ctx)
	found, err := s.exportOf(ctx, request.Period, request.Params.Revision)
	if err != nil {
		return nil, err
	}
	statement, err := s.config.Store.Statement(ctx, found.ID, request.Organization)
	if errors.Is(err, billing.ErrStatementNotFound) {
		// The caller knows the export by its period.
		export := exportName(found.Period, request.Params.Revision)
		return nil, billing.ErrStatementNotFound.Of(fmt.Sprintf("of organization %s in export %s", request.Organization, export))
	}
	if err != nil {
		return nil, err
	}
	return gen.GetStatement200JSONResponse(explained(statement)), nil
}
