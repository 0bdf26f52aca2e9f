package activities

import (
	"context"
	"time"

	"go.temporal.io/sdk/activity"
)

// RunsConfig is what a [Runs] is made from.
type RunsConfig struct {
	// IsRunning reports whether a workflow ID has a run that has not ended. Required.
	IsRunning func(ctx context.Context, workflowID string) (bool, error)
	// Poll is the time between looks. Zero: 5 s.
	Poll time.Duration
}

// Runs has the activities about runs of workflows.
type Runs struct{ config RunsConfig }

// NewRuns makes the activities about runs of workflows. It panics where a required field of the
// config is missing.
func NewRuns(config RunsConfig) *Runs {
	if config.IsRunning == nil {
		panic("activities: RunsConfig.IsRunning is required")
	}
	if config.Poll == 0 {
		config.Poll = 5 * time.Second
	}
	return &Runs{config: config}
}

// AwaitRunInput says which run to wait for.
type AwaitRunInput struct {
	// WorkflowID is its workflow's ID. Required.
	WorkflowID string `json:"workflow_id"`
}

// AwaitRun returns once no run of a workflow ID runs, however it ended. It waits as long as it
// takes: for the workflow that waits this is one activity, and not a look after the other in its
// history.
func (r *Runs) AwaitRun(ctx context.Context, in AwaitRunInput) error {
	if in.WorkflowID == "" {
		return missing("workflow_id")
	}
	beats := startBeating(ctx, in)
	defer beats.stop()
	tick := time.NewTicker(r.config.Poll)
	defer tick.Stop()
	for {
		running, err := r.config.IsRunning(ctx, in.WorkflowID)
		if err != nil || !running {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-activity.GetWorkerStopChannel(ctx):
			return handOver(ctx)
		}
	}
}
