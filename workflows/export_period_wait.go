package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/riverline/tollgate/activities"
)

// wait is the stage waiting: all usage before the cut has to be in the store, unless finance
// decides to go on without the instances that hold it up.
func (r *exportRun) wait(ctx workflow.Context) error {
	for patience := firstPatience; ; patience = furtherPatience {
		waiting, stop := workflow.WithCancel(ctx)
		look := r.lookForWatermarks(waiting, patience)
		err := workflow.Await(ctx, func() bool { return look.IsReady() || r.continued() })
		stop()
		if err != nil || r.continued() {
			return err
		}
		if err := r.noteWatermarks(ctx, look); err != nil {
			return err
		}
		if len(r.progress().Waiting) == 0 {
			return r.settle(ctx)
		}
	}
}

// continued reports whether the run goes on without whom it waits for.
func (r *exportRun) continued() bool { return r.progress().ContinuedBy != "" }

func (r *exportRun) lookForWatermarks(ctx workflow.Context, patience time.Duration) workflow.Future {
	cut := r.progress().Cut
	ctx = forWaiting(ctx, fmt.Sprintf("until every live instance has flushed up to %s", stamp(cut)))
	return workflow.ExecuteActivity(ctx, onFleet.AwaitWatermarks, activities.AwaitWatermarksInput{
		Cut: cut, Patience: activities.Duration(patience),
	})
}

// noteWatermarks shows whom a look has found to be waited for.
func (r *exportRun) noteWatermarks(ctx workflow.Context, look workflow.Future) error {
	var flushed activities.AwaitWatermarksResult
	if err := look.Get(ctx, &flushed); err != nil {
		return err
	}
	p := r.progress()
	p.Live, p.Lost, p.Waiting = flushed.Live, flushed.Lost, flushed.Waiting
	if len(p.Waiting) > 0 {
		r.showDetails(ctx)
	}
	return nil
}
