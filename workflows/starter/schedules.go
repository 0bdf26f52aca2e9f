package starter

import (
	"context"
	"errors"
	"fmt"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/riverline/tollgate/workflows"
)

// EnsureSchedules makes the schedules that are missing, and brings the others up to
// date: when they run, what they start and by which policy. Whether a schedule is
// paused, and its note, are the operator's, and stay. It may be called any number of
// times, also at once.
func EnsureSchedules(ctx context.Context, c client.Client) error {
	for _, schedule := range workflows.Schedules() {
		if err := ensureSchedule(ctx, c, schedule); err != nil {
			return fmt.Errorf("schedule %s: %w", schedule.ID, err)
		}
	}
	return nil
}

func ensureSchedule(ctx context.Context, c client.Client, want client.ScheduleOptions) error {
	_, err := c.ScheduleClient().Create(ctx, want)
	if err == nil {
		return nil
	}
	if !errors.Is(err, temporal.ErrScheduleAlreadyRunning) {
		return fmt.Errorf("create: %w", err)
	}
	err = c.ScheduleClient().GetHandle(ctx, want.ID).Update(ctx, client.ScheduleUpdateOptions{
		DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
			schedule := in.Description.Schedule
			schedule.Spec = &want.Spec
			schedule.Action = want.Action
			schedule.Policy = &client.SchedulePolicies{
				Overlap: want.Overlap, CatchupWindow: want.CatchupWindow, PauseOnFailure: want.PauseOnFailure,
			}
			return &client.ScheduleUpdate{Schedule: &schedule}, nil
		},
	})
	if err != nil {
		return fmt.Errorf("update: %w", err)
	}
	return nil
}
