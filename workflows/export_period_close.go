package workflows

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/workflow"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
)

// rate is the stage rating: the organizations in pages, several at a time. What can't
// be rated is parked, and never holds up the others.
func (r *exportRun) rate(ctx workflow.Context) error {
	if err := r.enter(ctx, billing.StageRating); err != nil {
		return err
	}
	var plan activities.PlanRatingResult
	err := workflow.ExecuteActivity(forBulk(ctx, "divide the organizations into pages"), onExport.PlanRating, activities.PlanRatingInput{
		ID: r.begun.ID, PageSize: ratingPageSize,
	}).Get(ctx, &plan)
	if err != nil {
		return err
	}
	p := r.progress()
	p.Pages = len(plan.Until)
	return inPages(ctx, len(plan.Until), ratingAtOnce, func(ctx workflow.Context, page int) error {
		return r.ratePage(ctx, plan.Until, page)
	})
}

func (r *exportRun) ratePage(ctx workflow.Context, until []uuid.UUID, page int) error {
	in := activities.RateOrganizationsInput{ID: r.begun.ID, Until: until[page]}
	if page > 0 {
		in.After = until[page-1]
	}
	var rated activities.RateOrganizationsResult
	summary := fmt.Sprintf("rate page %d of %d", page+1, len(until))
	if err := workflow.ExecuteActivity(forBulk(ctx, summary), onExport.RateOrganizations, in).Get(ctx, &rated); err != nil {
		return err
	}
	p := r.progress()
	p.PagesRated++
	p.Statements += rated.Rated
	p.Parked += rated.Parked
	r.showDetails(ctx)
	return nil
}

// writeAll is the stage writing: usage, statements in every form, and the manifest.
func (r *exportRun) writeAll(ctx workflow.Context) error {
	if err := r.enter(ctx, billing.StageWriting); err != nil {
		return err
	}
	return r.writeFiles(ctx)
}

func (r *exportRun) writeFiles(ctx workflow.Context) error {
	p := r.progress()
	options := r.in.Documents
	writing, stop := workflow.WithCancel(ctx)
	usage := workflow.ExecuteActivity(forBulk(writing, "write "+documents.UsageFile), onExport.WriteUsageFile, activities.WriteUsageFileInput{
		ID: r.begun.ID, Folder: r.begun.Folder, Compress: options.Compress,
	})
	statements := workflow.ExecuteActivity(forBulk(writing, "write the statements"), onExport.WriteStatements, activities.WriteStatementsInput{
		ID: r.begun.ID, Folder: r.begun.Folder, Options: options, Numbered: !p.Provisional,
	})
	if err := allOrNone(ctx, stop, usage, statements); err != nil {
		return err
	}
	var ofUsage activities.WriteUsageFileResult
	if err := usage.Get(ctx, &ofUsage); err != nil {
		return err
	}
	var ofStatements activities.WriteStatementsResult
	if err := statements.Get(ctx, &ofStatements); err != nil {
		return err
	}
	p.Files, p.Totals = slices.Concat(ofStatements.Files, []billing.File{ofUsage.File}), ofUsage.Totals
	var manifest activities.WriteManifestResult
	err := workflow.ExecuteActivity(forBulk(ctx, "write "+documents.ManifestFile), onExport.WriteManifest, activities.WriteManifestInput{
		Export: r.begun, Files: p.Files, Totals: p.Totals,
	}).Get(ctx, &manifest)
	if err != nil {
		return err
	}
	p.Money, p.Statements, p.Parked = manifest.Money, manifest.Counts.Statements, manifest.Counts.Parked
	r.result.Manifest = manifest.Name
	r.showDetails(ctx)
	return nil
}

// allOrNone waits until every activity has ended. Where one fails, it stops the others,
// so that none of them still writes when the run is over, and returns the first failure.
func allOrNone(ctx workflow.Context, stop func(), futures ...workflow.Future) error {
	var failure error
	selector := workflow.NewSelector(ctx)
	for _, future := range futures {
		selector.AddFuture(future, func(f workflow.Future) {
			if err := f.Get(ctx, nil); err != nil && failure == nil {
				failure = err
				stop()
			}
		})
	}
	for range futures {
		selector.Select(ctx)
	}
	return failure
}

// review is the stages reviewing and awaiting_approval. It ends when somebody
// approves or rejects; until then it reminds.
func (r *exportRun) review(ctx workflow.Context) error {
	p := r.progress()
	if p.Provisional {
		return nil
	}
	if err := r.compare(ctx); err != nil {
		return err
	}
	for {
		r.decision, r.recorded = nil, false
		stage := billing.StageApproving
		if p.Variances > 0 && !p.Reviewed {
			stage = billing.StageReviewing
		}
		if err := r.enter(ctx, stage); err != nil {
			return err
		}
		decided, err := r.awaitDecision(ctx)
		if err != nil {
			return err
		}
		switch decided.Action {
		case billing.ActionApproved:
			p.ApprovedBy = decided.Actor.Name
			return nil
		case billing.ActionRejected:
			return rejection{decided}
		case billing.ActionReviewed:
			p.Reviewed = true
		case billing.ActionRetried:
			if err := r.retryParked(ctx); err != nil {
				return err
			}
		}
	}
}

// compare finds what differs from the period before.
func (r *exportRun) compare(ctx workflow.Context) error {
	var found activities.ReviewVariancesResult
	err := workflow.ExecuteActivity(forBulk(ctx, "compare with the period before"), onExport.ReviewVariances, activities.ReviewVariancesInput{
		ID: r.begun.ID, Threshold: r.in.Variance,
	}).Get(ctx, &found)
	p := r.progress()
	p.Variances, p.Reviewed = found.Counts.Variances, false
	p.MissingBatches = found.Counts.MissingBatches
	return err
}

// retryParked rates what was parked again; the files then hold it, and what was reviewed
// is to be reviewed again.
func (r *exportRun) retryParked(ctx workflow.Context) error {
	err := workflow.ExecuteActivity(forBulk(ctx, "rate what was parked again"), onExport.RetryParked, activities.RetryParkedInput{
		ID: r.begun.ID,
	}).Get(ctx, nil)
	if err != nil {
		return err
	}
	// The stage is not entered again: it never goes back in the record.
	if err := r.writeFiles(ctx); err != nil {
		return err
	}
	return r.compare(ctx)
}

// awaitDecision waits without end, and reminds.
func (r *exportRun) awaitDecision(ctx workflow.Context) (billing.ExportDecision, error) {
	p := r.progress()
	p.AwaitingSince = workflow.Now(ctx).UTC()
	r.showDetails(ctx)
	for {
		decided, err := workflow.AwaitWithOptions(ctx, workflow.AwaitOptions{
			Timeout: r.remindAfter(), TimerOptions: workflow.TimerOptions{Summary: "remind finance of " + string(p.Stage)},
		}, func() bool { return r.decision != nil && r.recorded })
		if err != nil {
			return billing.ExportDecision{}, err
		}
		if decided {
			return *r.decision, nil
		}
		p.Reminders++
		r.showDetails(ctx)
		r.remind(ctx)
	}
}

// remind tells others that the run waits. It holds up no decision, and a reminder that can't be made
// before the next one is due is left out.
func (r *exportRun) remind(ctx workflow.Context) {
	p := r.progress()
	in := activities.RemindInput{
		Export: r.begun.ID, Reminder: billing.Reminder{Stage: p.Stage, Since: p.AwaitingSince, Number: p.Reminders},
	}
	reminding := workflow.ExecuteActivity(forReminder(ctx, fmt.Sprintf("reminder %d of %s", p.Reminders, p.Stage), r.remindAfter()), onExport.Remind, in)
	workflow.Go(ctx, func(ctx workflow.Context) {
		if err := reminding.Get(ctx, nil); err != nil && !isCanceled(ctx) {
			workflow.GetLogger(ctx).Error("A reminder of an export that waits for finance could not be made", "period", p.Period, "stage", p.Stage, "error", err)
		}
	})
}

func (r *exportRun) remindAfter() time.Duration {
	if r.in.RemindAfter > 0 {
		return time.Duration(r.in.RemindAfter)
	}
	return DefaultRemindAfter
}

// issue is the stages issuing, delivering and the end. From here on a cancel comes too
// late: half of it would be worse than all of it.
func (r *exportRun) issue(ctx workflow.Context) error {
	if err := r.settle(ctx); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	ctx, r.tooLate = detached(ctx), true
	if !r.progress().Provisional {
		if err := r.enter(ctx, billing.StageIssuing); err != nil {
			return err
		}
		err := workflow.ExecuteActivity(forBulk(ctx, "issue the statements"), onExport.IssueStatements, activities.IssueStatementsInput{
			ID: r.begun.ID,
		}).Get(ctx, nil)
		if err != nil {
			return err
		}
		// What was issued is an event from here on, which others deliver.
		if err := r.enter(ctx, billing.StageDelivering); err != nil {
			return err
		}
		if err := r.deliver(ctx); err != nil {
			return err
		}
	}
	err := workflow.ExecuteActivity(forStore(ctx, "record the end"), onExport.CompleteExport, activities.CompleteExportInput{ID: r.begun.ID}).Get(ctx, nil)
	if err != nil {
		return err
	}
	if r.progress().Provisional {
		return r.show(ctx, billing.StageDone)
	}
	return r.show(ctx, billing.StageClosed)
}
