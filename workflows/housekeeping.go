package workflows

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
)

// HousekeepingInput is empty: what is over is so at the scheduled time.
type HousekeepingInput struct{}

// HousekeepingResult says what was done. A step that has not ended is nil.
type HousekeepingResult struct {
	// Partitions is true once the partitions of the months to come are there.
	Partitions bool `json:"partitions"`
	// Expired counts what was deleted because its time was over.
	Expired *billing.Expired `json:"expired,omitempty"`
	// ExpiredCredits counts the credit grants of which something was left when their time
	// was over.
	ExpiredCredits *billing.ExpiredCredits `json:"expired_credits,omitempty"`
	// Failed says which steps failed for good, and why.
	Failed []string `json:"failed,omitempty"`
}

// stageKeeping is the stage of a [Housekeeping] that has not ended.
const stageKeeping = "keeping"

// Housekeeping runs once a day, on its schedule. It makes the partitions of the months to come,
// deletes what is kept for a time only, and expires credits: side by side, so that one that
// fails, or waits, stops no other. It depends on no day's rollup. Where a step fails for good
// it ends as failed once the others are done.
func Housekeeping(ctx workflow.Context, _ HousekeepingInput) (HousekeepingResult, error) {
	at, err := scheduledAt(ctx, "by triggering the schedule "+HousekeepingScheduleID)
	if err != nil {
		return HousekeepingResult{}, err
	}
	h := &housekeeping{at: at}
	if err := workflow.SetQueryHandler(ctx, QueryProgress, func() (HousekeepingResult, error) { return h.result, nil }); err != nil {
		return h.result, fmt.Errorf("handle the query %s: %w", QueryProgress, err)
	}
	if err := setStage(ctx, stageKeeping); err != nil {
		return h.result, err
	}
	err = h.run(ctx)
	stage := billing.StageDone
	switch {
	case isCanceled(ctx):
		stage = billing.StageCanceled
	case err != nil:
		stage = billing.StageFailed
	}
	ending := detached(ctx)
	h.show(ending, string(stage))
	if shown := setStage(ending, string(stage)); shown != nil {
		return h.result, shown
	}
	return h.result, err
}

type housekeeping struct {
	at     time.Time
	result HousekeepingResult
}

// run does all steps, and says at last which have failed.
func (h *housekeeping) run(ctx workflow.Context) error {
	failed := false
	group := workflow.NewWaitGroup(ctx)
	for _, step := range []struct {
		name string
		do   func(workflow.Context) error
	}{
		{"make partitions ahead", h.partitions},
		{"delete what is kept for a time only", h.deleteExpired},
		{"expire credits", h.expireCredits},
	} {
		group.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer group.Done()
			err := step.do(ctx)
			if err != nil && !isCanceled(ctx) {
				h.result.Failed = append(h.result.Failed, step.name+": "+reason(err))
				workflow.GetLogger(ctx).Error("A step of the housekeeping has failed", "step", step.name, "error", err)
			}
			failed = failed || err != nil
			h.show(ctx, stageKeeping)
		})
	}
	group.Wait(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if failed {
		return refuse(TypeHousekeeping, "%s", strings.Join(h.result.Failed, "; "))
	}
	return nil
}

func (h *housekeeping) partitions(ctx workflow.Context) error {
	in := activities.EnsurePartitionsInput{Day: calendar.DayOf(h.at) - 1, MonthsAhead: partitionMonths}
	err := workflow.ExecuteActivity(forBulk(ctx, "make partitions ahead"), onRollup.EnsurePartitions, in).Get(ctx, nil)
	h.result.Partitions = err == nil
	return err
}

func (h *housekeeping) deleteExpired(ctx workflow.Context) error {
	in := activities.DeleteExpiredInput{Before: h.at.Add(-meter.IdentityRetention), At: h.at}
	var deleted billing.Expired
	if err := workflow.ExecuteActivity(forBulk(ctx, "delete what is kept for a time only"), onRollup.DeleteExpired, in).Get(ctx, &deleted); err != nil {
		return err
	}
	h.result.Expired = &deleted
	return nil
}

func (h *housekeeping) expireCredits(ctx workflow.Context) error {
	var credits billing.ExpiredCredits
	if err := workflow.ExecuteActivity(forBulk(ctx, "expire credits"), onCredits.ExpireCredits, activities.ExpireCreditsInput{At: h.at}).Get(ctx, &credits); err != nil {
		return err
	}
	h.result.ExpiredCredits = &credits
	return nil
}

func (h *housekeeping) show(ctx workflow.Context, stage string) {
	r := h.result
	rows := [][2]string{{"as of", stamp(h.at)}, {"partitions", strconv.FormatBool(r.Partitions)}}
	if r.Expired != nil {
		rows = append(rows, [2]string{"deleted", fmt.Sprintf("%+v", *r.Expired)})
	}
	if r.ExpiredCredits != nil {
		rows = append(rows, [2]string{"grants that expired", strconv.Itoa(r.ExpiredCredits.Grants)})
	}
	for _, failed := range r.Failed {
		rows = append(rows, [2]string{"failed", failed})
	}
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("**%s**\n\n%s", stage, table(rows...)))
}
