package workflows

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
	"go.temporal.io/sdk/workflow"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
)

// DecideInput is a decision of finance on an export that waits for one.
type DecideInput struct {
	// Action is reviewed, approved, rejected, retried, canceled or continued.
	Action billing.Action `json:"action"`
	// Actor is who decides. Required.
	Actor billing.Actor `json:"actor"`
	// Note says why, at most 1,000 characters. Required to reject, to cancel,
	// to review and to continue.
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
		Description: "Finance reviews variances, approves, rejects, cancels, has what is parked rated again, or goes on without who is waited for",
	})
}

// mayDecide holds the rules: the four eyes among them, as far as they can be told from the keys'
// identities. Which people they are is in the store, which refuses in [exportRun.record].
func (r *exportRun) mayDecide(in DecideInput) error {
	p := r.progress()
	switch {
	case in.Actor.Name == "":
		return refuse(TypeInvalidInput, "actor is missing: who decides")
	case utf8.RuneCountInString(in.Note) > billing.MaxNote:
		return refuse(TypeInvalidInput, "note has %d characters: it must have at most %d", utf8.RuneCountInString(in.Note), billing.MaxNote)
	case r.begun.ID == uuid.Nil:
		return refuse(TypeNotAwaiting, "the export of %s is not recorded yet: decide in a moment", p.Period)
	case r.cancelation != nil:
		return r.decidedBefore(r.cancelation)
	case r.decision != nil && !r.tooLate && (in.Action != billing.ActionCanceled || r.decision.Action.Ends()):
		return r.decidedBefore(r.decision)
	case in.Action == billing.ActionCanceled:
		return r.mayCancel(in)
	case in.Action == billing.ActionContinued:
		return r.mayContinue(in)
	case p.Stage != billing.StageReviewing && p.Stage != billing.StageApproving:
		return refuse(TypeNotAwaiting, "the export of %s is %s: it waits for no decision", p.Period, p.Stage)
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
		return refuse(TypeInvalidInput, "action %q must be reviewed, approved, rejected, retried, canceled or continued", in.Action)
	}
	return nil
}

// decidedBefore refuses a decision because of one that was accepted before it.
func (r *exportRun) decidedBefore(d *billing.ExportDecision) error {
	return refuse(TypeNotAwaiting, "the export of %s was %s by %s a moment ago", r.progress().Period, d.Action, d.Actor.Name)
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
	}
	return r.needSecond(in)
}

// mayContinue lets a run go on without the instances that it waits for.
func (r *exportRun) mayContinue(in DecideInput) error {
	p := r.progress()
	switch {
	case p.Stage != billing.StageWaiting || len(p.Waiting) == 0 || r.continued():
		return refuse(TypeNotAwaiting, "the export of %s is %s: it waits for no instance", p.Period, p.Stage)
	case strings.TrimSpace(in.Note) == "":
		return refuse(TypeInvalidInput, "note is missing: say why the export goes on without the instances that it waits for")
	}
	return r.needSecond(in)
}

// needSecond holds the four eyes: not who requested the run.
func (r *exportRun) needSecond(in DecideInput) error {
	p := r.progress()
	switch {
	case !r.in.AllowSelfApproval && in.Actor.ID != uuid.Nil && in.Actor.ID == r.in.RequestedByID:
		return refuse(TypeSelfApproval, "%s requested the export of %s: somebody else has to decide that", in.Actor.Name, p.Period)
	case !r.in.AllowSelfApproval && in.Actor.ID == uuid.Nil:
		return refuse(TypeInvalidInput, "actor.id is missing: it needs the key of who decides")
	}
	return nil
}

// decide records a decision, and lets the run go on. Decisions count in the order in which they
// were accepted: what is accepted is in [exportRun.decision] or [exportRun.cancelation] at once, by
// which the next one is judged. Only a cancel is accepted while another decision is being recorded;
// it waits for that one.
func (r *exportRun) decide(ctx workflow.Context, in DecideInput) (DecideResult, error) {
	decision := &billing.ExportDecision{Action: in.Action, Actor: in.Actor, Note: in.Note}
	accepted := &r.decision
	if in.Action == billing.ActionCanceled {
		accepted = &r.cancelation
	}
	*accepted = decision
	r.unrecorded++
	defer func() { r.unrecorded-- }()
	if err := r.recordInTurn(ctx, decision); err != nil {
		*accepted = nil
		return DecideResult{}, err
	}
	p := r.progress()
	switch in.Action {
	case billing.ActionCanceled:
		r.cancel()
	case billing.ActionContinued:
		p.Without, p.Waiting, p.ContinuedBy = decision.Without, nil, decision.Actor.Name
		r.decision = nil
	default:
		r.recorded = true
	}
	return DecideResult{Stage: p.Stage}, nil
}

// recordInTurn records a decision after those that were accepted before it.
func (r *exportRun) recordInTurn(ctx workflow.Context, decision *billing.ExportDecision) error {
	if err := r.recording.Lock(detached(ctx)); err != nil {
		return err
	}
	defer r.recording.Unlock()
	if decision.Action == billing.ActionContinued {
		if err := r.nameWithout(ctx, decision); err != nil {
			return err
		}
	}
	decision.At = workflow.Now(ctx).UTC()
	return r.record(ctx, *decision)
}

// nameWithout says without whom the run goes on: those that it waits for now.
func (r *exportRun) nameWithout(ctx workflow.Context, decision *billing.ExportDecision) error {
	if err := r.noteWatermarks(ctx, r.lookForWatermarks(ctx, nowPatience)); err != nil {
		return err
	}
	p := r.progress()
	switch {
	case r.cancelation != nil:
		return r.decidedBefore(r.cancelation)
	case len(p.Waiting) == 0 || p.Stage != billing.StageWaiting:
		return refuse(TypeNotAwaiting, "the export of %s waits for no instance any more", p.Period)
	}
	decision.Without = p.Waiting
	return nil
}

// settle waits until each decision that was accepted is recorded, so that it counts.
func (r *exportRun) settle(ctx workflow.Context) error {
	return workflow.Await(detached(ctx), func() bool { return r.unrecorded == 0 })
}

// record adds a decision to the audit trail.
func (r *exportRun) record(ctx workflow.Context, decision billing.ExportDecision) error {
	// The update's own, so that the same decision is known again by another run, too; else derived, so
	// that a retry records nothing twice.
	update := workflow.GetCurrentUpdateInfo(ctx).ID
	id, err := uuid.Parse(update)
	if err != nil {
		id = uuid.NewSHA1(r.begun.ID, []byte(update))
	}
	// Not to be canceled: what was decided is kept.
	ctx = detached(ctx)
	what := "record: " + string(decision.Action) + " by " + decision.Actor.Name
	return workflow.ExecuteActivity(forStore(ctx, what), onExport.RecordDecision, activities.RecordDecisionInput{
		Export: r.begun.ID, ID: id, Decision: decision, OnePerson: r.in.AllowSelfApproval,
	}).Get(ctx, nil)
}

// answerAll waits until everybody who decides has an answer.
func (r *exportRun) answerAll(ctx workflow.Context) error {
	ctx = detached(ctx)
	return workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })
}

// rejection ends a run that finance has rejected.
type rejection struct{ decided billing.ExportDecision }

// Error says who rejected it, and why.
func (r rejection) Error() string {
	return fmt.Sprintf("rejected by %s: %s", r.decided.Actor.Name, r.decided.Note)
}
