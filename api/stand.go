package api

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/webhooks"
)

// OperationsStore says what waits, and what is stuck.
type OperationsStore interface {
	// Stand returns what waits and what is stuck, of usage and on its way to endpoints.
	Stand(ctx context.Context) (meter.Stand, webhooks.Backlog, error)
	// OpenExports returns the exports that have not ended.
	OpenExports(ctx context.Context) ([]billing.Export, error)
	// Reconcile compares what each layer says of the usage of days, both included.
	Reconcile(ctx context.Context, from, to calendar.Day) (billing.Reconciliation, error)
}

// Backlog is what a process has acknowledged and not written.
type Backlog struct {
	// Instance is the process.
	Instance uuid.UUID
	// Retained counts batches that wait for the database.
	Retained int
	// Segments counts the sealed parts of the journal that wait for their batch, Bytes is what is in
	// the one that is written to.
	Segments int
	Bytes    int64
	// Journal says why it takes nothing; nil where it does.
	Journal error
}

// GetOperations answers with what waits, and what is stuck.
func (s *Server) GetOperations(ctx context.Context, _ gen.GetOperationsRequestObject) (gen.GetOperationsResponseObject, error) {
	ctx = requestContext(ctx)
	out := gen.GetOperations200JSONResponse{}
	stand, waiting, err := s.config.Store.Stand(ctx)
	if err != nil {
		return nil, err
	}
	out.Quarantined, out.MissingBatches = stand.Quarantined, stand.MissingBatches
	out.BatchConflicts, out.StuckReservations = stand.BatchConflicts, stand.StuckReservations
	out.UndispatchedEvents, out.FailingDeliveries, out.ExhaustedDeliveries = waiting.Undispatched, waiting.Failing, waiting.Exhausted
	if !waiting.UndispatchedSince.IsZero() {
		out.UndispatchedSince = &waiting.UndispatchedSince
	}
	if err := s.addOpenExports(ctx, &out); err != nil {
		return nil, err
	}
	own := s.config.Backlog()
	out.Instance.Id, out.Instance.RetainedBatches = own.Instance, own.Retained
	out.Instance.JournalSegments, out.Instance.JournalBytes = own.Segments, own.Bytes
	if own.Journal != nil {
		says := own.Journal.Error()
		out.Instance.JournalError = &says
	}
	return out, nil
}

func (s *Server) addOpenExports(ctx context.Context, out *gen.GetOperations200JSONResponse) error {
	open, err := s.config.Store.OpenExports(ctx)
	out.OpenExports = makeLike(out.OpenExports, len(open))
	for i, e := range open {
		to := &out.OpenExports[i]
		to.Period, to.Revision, to.Stage, to.Since = e.Period.String(), e.Revision, string(e.Stage), e.StagedAt
		to.TemporalUrl = s.temporalURL(e.WorkflowID, e.RunID)
	}
	return err
}

// makeLike makes a slice of the type of another one, which generated code gives no name.
func makeLike[S ~[]E, E any](_ S, n int) S { return make(S, n) }

// maxReconciled is the most days that are compared at once.
const maxReconciled = 31

// GetReconciliation compares what each layer says of the same usage.
func (s *Server) GetReconciliation(ctx context.Context, request gen.GetReconciliationRequestObject) (gen.GetReconciliationResponseObject, error) {
	ctx = requestContext(ctx)
	days := [2]calendar.Day{}
	for i, given := range []struct{ name, text string }{{"from", request.Params.From}, {"to", request.Params.To}} {
		var err error
		if days[i], err = calendar.ParseDay(given.text); err != nil {
			return nil, invalid(given.name, "must be a day of the form YYYY-MM-DD; %q is not", given.text)
		}
	}
	if days[1] < days[0] || days[1]-days[0] >= maxReconciled {
		return nil, invalid("to", "must be %s to %d days from it", days[0], maxReconciled-1)
	}
	ctx, cancel := context.WithTimeout(ctx, reconcileWithin)
	defer cancel()
	found, err := s.config.Store.Reconcile(ctx, days[0], days[1])
	return gen.GetReconciliation200JSONResponse(found), err
}

// reconcileWithin bounds a reconciliation that somebody waits for.
const reconcileWithin = 30 * time.Second
