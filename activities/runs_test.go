package activities_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/activities"
)

func TestAwaitRun(t *testing.T) {
	t.Parallel()
	looks := 0
	a := activities.NewRuns(activities.RunsConfig{Poll: time.Millisecond, IsRunning: func(_ context.Context, id string) (bool, error) {
		require.Equal(t, "rollup/2026-10-16", id)
		looks++
		return looks < 3, nil
	}})
	e := newEnvironment(t, a)
	_, err := run[any](t, e, a.AwaitRun, activities.AwaitRunInput{WorkflowID: "rollup/2026-10-16"})
	require.NoError(t, err)
	require.Equal(t, 3, looks)
	require.Equal(t, activities.AwaitRunInput{WorkflowID: "rollup/2026-10-16"}, heartbeats[activities.AwaitRunInput](t, e)[0])

	_, err = run[any](t, newEnvironment(t, a), a.AwaitRun, activities.AwaitRunInput{})
	require.ErrorContains(t, err, "workflow_id")
}

func TestAwaitRunEnds(t *testing.T) {
	t.Parallel()
	t.Run("with its worker", func(t *testing.T) {
		t.Parallel()
		var e *environment
		a := activities.NewRuns(activities.RunsConfig{Poll: time.Hour, IsRunning: func(context.Context, string) (bool, error) {
			close(e.stop)
			return true, nil
		}})
		e = newEnvironment(t, a)
		_, err := run[any](t, e, a.AwaitRun, activities.AwaitRunInput{WorkflowID: "x"})
		require.Error(t, err)
	})
	t.Run("where Temporal can't be asked", func(t *testing.T) {
		t.Parallel()
		a := activities.NewRuns(activities.RunsConfig{IsRunning: func(context.Context, string) (bool, error) { return false, errors.New("away") }})
		_, err := run[any](t, newEnvironment(t, a), a.AwaitRun, activities.AwaitRunInput{WorkflowID: "x"})
		require.ErrorContains(t, err, "away")
	})
}
