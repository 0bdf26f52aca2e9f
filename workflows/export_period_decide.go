package workflows

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
)

// DecideInput is a decision of finance on an export that waits for one.
type DecideInput struct {
	// Action is reviewed, approved, rejected, retried or canceled.
	Action billing.Action `json:"action"`
	// Actor is who decides. Required.
	Actor billing.Actor `json:"actor"`
	// Note says why, at most 1,000 characters. Required to reject, to cancel and to review.
	Note string `json:"note,omitempty"`
	// WithoutParked approves an export that leaves out the organizations that could not
	// be rated: what they used is billed as a correction in the next period.
	WithoutParked bool `json:"without_parked,omitempty"`
}

// DecideResult says where the export is after a decision was recorded.
type DecideResult struct {
	Stage billing.Stage `json:"stage"`
}

// handleDecisions lets finance decide. A decision that may not be is refused before it is
// in the history.
func (r *exportRun) handleDecisions(ctx workflow.Context) error {
	return workflow.SetUpdateHandlerWithOptions(ctx, UpdateDecide, r.decide, workflow.UpdateHandlerOptions{
		Validator:   func(_ workflow.Context, in DecideInput) error { return r.mayDecide(in) },
		Description: "Finance reviews variances, approves, rejects, cancels, or has what is parked rated again",
	})
}

// mayDecide holds the rules: the four eyes among them.
func (r *exportRun) mayDecide(in DecideInput) error {
	p := r.progress()
	switch {
	case in.Actor.Name == "":
		return refuse(TypeInvalidInput, "actor is missing: who decides")
	case utf8.RuneCountInString(in.Note) > billing.MaxNote:
		return refuse(TypeInvalidInput, "note has %d characters: it must have at most %d", utf8.RuneCountInString(in.Note), billing.MaxNote)
	case r.cancelation != nil:
		return refuse(TypeNotAwaiting, "the export of %s was canceled by %s a moment ago", p.Period, r.cancelation.Actor.Name)
	case in.Action == billing.ActionCanceled:
		return r.mayCancel(in)
	case p.Stage != billing.StageReviewing && p.Stage != billing.StageApproving:
		return refuse(TypeNotAwaiting, "the export of %s is %s: it waits for no decision", p.Period, p.Stage)
	case r.decision != nil:
		return refuse(TypeNotAwaiting, "the export of %s was %s by %s a moment ago", p.Period, r.decision.Action, r.decision.Actor.Name)
	}
	noted := strings.TrimSpace(in.Note) != ""
	switch in.Action {
	case billing.ActionReviewed:
		if p.Stage != billing.StageReviewing {
			return refuse(TypeNotAwaiting, "the export of %s has no variances that are to be reviewed", p.Period)
		}
		if !noted {
			return refuse(TypeInvalidInput, "note is missing: say what explains the variances")
		}
	case billing.ActionApproved:
		return r.mayApprove(in)
	case billing.ActionRejected:
		if !noted {
			return refuse(TypeInvalidInput, "note is missing: say why the export is rejected")
		}
	case billing.ActionRetried:
		if p.Parked == 0 {
			return refuse(TypeNotAwaiting, "the export of %s has nothing parked", p.Period)
		}
	default:
		return refuse(TypeInvalidInput, "action %q must be reviewed, approved, rejected, retried or canceled", in.Action)
	}
	return nil
}

// mayCancel lets a run be canceled in any stage before issuing.
func (r *exportRun) mayCancel(in DecideInput) error {
	p := r.progress()
	switch {
	case r.tooLate || p.Stage.Ended():
		return refuse(TypeNotAwaiting, "the export of %s is %s: it is too late to cancel it", p.Period, p.Stage)
	case strings.TrimSpace(in.Note) == "":
		return refuse(TypeInvalidInput, "note is missing: say why the export is canceled")
	}
	return nil
}

func (r *exportRun) mayApprove(in DecideInput) error {
	p := r.progress()
	switch {
	case p.Stage == billing.StageReviewing:
		return refuse(TypeNotReviewed, "the export of %s has %d variances that nobody has reviewed", p.Period, p.Variances)
	case p.Parked > 0 && !in.WithoutParked:
		return refuse(TypeParked, "%d organizations could not be rated: retry them, or approve without them", p.Parked)
	case !r.in.AllowSelfApproval && in.Actor.ID != uuid.Nil && in.Actor.ID == r.in.RequestedByID:
		return refuse(TypeSelfApproval, "%s requested the export of %s: somebody else has to approve it", in.Actor.Name, p.Period)
	case !r.in.AllowSelfApproval && in.Actor.ID == uuid.Nil:
		return refuse(TypeInvalidInput, "actor.id is missing: an approval needs the key of who approves")
	}
	return nil
}

// decide records a decision, and lets the run go on.
func (r *exportRun) decide(ctx workflow.Context, in DecideInput) (DecideResult, error) {
	decision := billing.ExportDecision{Action: in.Action, Actor: in.Actor, Note: in.Note, At: workflow.Now(ctx).UTC()}
	if in.Action == billing.ActionCanceled {
		return r.cancelBy(ctx, decision)
	}
	r.decision = &decision
	if err := r.record(ctx, decision); err != nil {
		r.decision = nil
		return DecideResult{}, err
	}
	r.recorded = true
	return DecideResult{Stage: r.progress().Stage}, nil
}

// cancelBy records who cancels the run, and cancels it. Once it issues, that changes nothing.
func (r *exportRun) cancelBy(ctx workflow.Context, decision billing.ExportDecision) (DecideResult, error) {
	r.cancelation = &decision
	if err := r.record(ctx, decision); err != nil {
		r.cancelation = nil
		return DecideResult{}, err
	}
	r.cancel()
	return DecideResult{Stage: r.progress().Stage}, nil
}

// record adds a decision to the audit trail.
func (r *exportRun) record(ctx workflow.Context, decision billing.ExportDecision) error {
	update := workflow.GetCurrentUpdateInfo(ctx)
	// Derived, so that a retry records nothing twice.
	id := uuid.NewSHA1(r.begun.ID, []byte(update.ID))
	// Not to be canceled: what was decided is kept.
	ctx = detached(ctx)
	what := "record: " + string(decision.Action) + " by " + decision.Actor.Name
	return workflow.ExecuteActivity(forStore(ctx, what), onExport.RecordDecision, activities.RecordDecisionInput{
		Export: r.begun.ID, ID: id, Decision: decision,
	}).Get(ctx, nil)
}

// answerAll waits until everybody who decides has an answer.
func (r *exportRun) answerAll(ctx workflow.Context) error {
	ctx = detached(ctx)
	return workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })
}

// errRejected ends a run that finance rejected.
func errRejected(d billing.ExportDecision) error {
	return temporal.NewNonRetryableApplicationError(fmt.Sprintf("rejected by %s: %s", d.Actor.Name, d.Note), TypeRejected, nil)
}
