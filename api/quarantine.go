package api

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/meter"
)

// QuarantineStore has the usage that was set aside because it is refused for good.
type QuarantineStore interface {
	// Quarantine returns at most limit of it whose IDs come after `after`, in their order. An
	// empty state means all, a zero organization that of all.
	Quarantine(ctx context.Context, state meter.QuarantineState, organization, after uuid.UUID, limit int) ([]meter.Quarantined, error)
	// Quarantined returns one; [meter.ErrQuarantineNotFound].
	Quarantined(ctx context.Context, id uuid.UUID) (meter.Quarantined, error)
	// ApplyQuarantined writes it, and records who decided so and why. What was dropped is
	// [meter.ErrQuarantineDecided], what is still refused [meter.ErrQuarantineRefused].
	ApplyQuarantined(ctx context.Context, id uuid.UUID, by, note string) (meter.Quarantined, error)
	// DropQuarantined gives it up, and records who decided so and why. What was applied is
	// [meter.ErrQuarantineDecided].
	DropQuarantined(ctx context.Context, id uuid.UUID, by, note string) (meter.Quarantined, error)
}

// maxQuarantineNote is the longest note of a decision, in bytes.
const maxQuarantineNote = 500

// ListQuarantine answers with a page of what was set aside.
func (s *Server) ListQuarantine(ctx context.Context, request gen.ListQuarantineRequestObject) (gen.ListQuarantineResponseObject, error) {
	ctx = requestContext(ctx)
	limit, err := pageLimit(request.Params.Limit)
	if err != nil {
		return nil, err
	}
	var state meter.QuarantineState
	if request.Params.State != nil {
		if state = meter.QuarantineState(*request.Params.State); !state.Valid() {
			return nil, invalid("state", "must be quarantined, applied or dropped, %q is neither", *request.Params.State)
		}
	}
	found, err := readPage(request.Params.After, limit, func(after uuid.UUID, limit int) ([]meter.Quarantined, error) {
		return s.config.Store.Quarantine(ctx, state, orNil(request.Params.OrganizationId), after, limit)
	}, func(q meter.Quarantined) uuid.UUID { return q.ID })
	return gen.ListQuarantine200JSONResponse{Quarantined: answersOf(found.items, quarantined), Next: found.next}, err
}

// GetQuarantined answers with one thing that was set aside.
func (s *Server) GetQuarantined(ctx context.Context, request gen.GetQuarantinedRequestObject) (gen.GetQuarantinedResponseObject, error) {
	found, err := s.config.Store.Quarantined(requestContext(ctx), request.Id)
	return gen.GetQuarantined200JSONResponse(quarantined(found)), err
}

// ApplyQuarantined writes what was set aside.
func (s *Server) ApplyQuarantined(ctx context.Context, request gen.ApplyQuarantinedRequestObject) (gen.ApplyQuarantinedResponseObject, error) {
	ctx = requestContext(ctx)
	if err := checkDecisionNote(request.Body.Note); err != nil {
		return nil, err
	}
	decided, err := s.config.Store.ApplyQuarantined(ctx, request.Id, decider(ctx), request.Body.Note)
	return gen.ApplyQuarantined200JSONResponse{Body: quarantined(decided)}, err
}

// DropQuarantined gives up what was set aside.
func (s *Server) DropQuarantined(ctx context.Context, request gen.DropQuarantinedRequestObject) (gen.DropQuarantinedResponseObject, error) {
	ctx = requestContext(ctx)
	if err := checkDecisionNote(request.Body.Note); err != nil {
		return nil, err
	}
	decided, err := s.config.Store.DropQuarantined(ctx, request.Id, decider(ctx), request.Body.Note)
	return gen.DropQuarantined200JSONResponse{Body: quarantined(decided)}, err
}

func checkDecisionNote(note string) error {
	if note == "" || len(note) > maxQuarantineNote {
		return invalid("note", "must say why, in 1 to %d bytes", maxQuarantineNote)
	}
	return nil
}

// decider names the caller for the record.
func decider(ctx context.Context) string {
	p := principalOf(ctx)
	return fmt.Sprintf("%s (key %s)", p.name, p.key)
}

func quarantined(q meter.Quarantined) gen.Quarantined {
	out := gen.Quarantined{
		Id: q.ID, InstanceId: q.Batch.Instance, Seq: q.Batch.Seq, OrganizationId: q.Organization, Meter: q.Meter, Aggregation: string(q.Aggregation),
		Day: q.Day, Plan: q.Plan, PlanVersion: q.PlanVersion, Value: q.Value, At: q.At, LeasedDay: q.Leased.Day, LeasedMonth: q.Leased.Month,
		Reports: q.Reports, Reason: q.Reason, Sqlstate: q.SQLState, QuarantinedAt: q.QuarantinedAt, State: q.State,
		DecidedBy: q.DecidedBy, DecidedAt: timeOrNull(q.DecidedAt), Note: q.Note,
	}
	if q.Identity != (meter.Identity{}) {
		text := q.Identity.String()
		out.Identity = &text
	}
	return out
}
