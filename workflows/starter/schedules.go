package starter

import (
	"context"
	"errors"
	"fmt"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/riverline/tollgate/workflows"
)

// EnsureSchedules makes the schedules that are missing, and brings those up to date that differ:
// when they run, what they start and by which policy. It returns the IDs of those that it had to
// make or change. Whether a schedule is paused, and its note, are the operator's, and stay. It may be
// called any number of times, also at once. Codecs are those of the client, which read what the
// server keeps.
func EnsureSchedules(ctx context.Context, c client.Client, codecs ...converter.PayloadCodec) ([]string, error) {
	var changed []string
	for _, schedule := range workflows.Schedules() {
		did, err := ensureSchedule(ctx, c, schedule, codecs)
		if err != nil {
			return changed, fmt.Errorf("schedule %s: %w", schedule.ID, err)
		}
		if did {
			changed = append(changed, schedule.ID)
		}
	}
	return changed, nil
}

// ensureSchedule says whether it had to make or change the schedule.
func ensureSchedule(ctx context.Context, c client.Client, want client.ScheduleOptions, codecs []converter.PayloadCodec) (bool, error) {
	handle := c.ScheduleClient().GetHandle(ctx, want.ID)
	described, err := handle.Describe(ctx)
	if isNotFound(err) {
		_, err = c.ScheduleClient().Create(ctx, want)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, temporal.ErrScheduleAlreadyRunning) {
			return false, fmt.Errorf("create: %w", err)
		}
		// Another was faster: it may be of another version.
		described, err = handle.Describe(ctx)
	}
	if err != nil {
		return false, fmt.Errorf("describe: %w", err)
	}
	if isAsWanted(described.Schedule, want, codecs) {
		return false, nil
	}
	err = handle.Update(ctx, client.ScheduleUpdateOptions{
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
		return false, fmt.Errorf("update: %w", err)
	}
	return true, nil
}
