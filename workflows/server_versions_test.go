package workflows_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/workflows"
	"github.com/riverline/tollgate/workflows/starter"
)

// buildOf returns the version of the worker that has done the last task of a run.
func (s *system) buildOf(t *testing.T, run starter.Started) string {
	t.Helper()
	described, err := s.client.DescribeWorkflowExecution(t.Context(), run.WorkflowID, run.RunID)
	require.NoError(t, err)
	return described.GetWorkflowExecutionInfo().GetVersioningInfo().GetDeploymentVersion().GetBuildId()
}

// An operator ramps from a version to the next: runs that are open move to it, and go on. The queues of
// instances have no versions, and are reached by both.
func TestServerVersionsAreRamped(t *testing.T) {
	t.Parallel()
	s := newSystemWithout(t)
	const deployment = "tollgate"
	for _, build := range []string{"1.0.0", "1.1.0"} {
		s.startWorkers(t, nil, workflows.Version{BuildID: build, Deployment: deployment})
	}
	versions := s.client.WorkerDeploymentClient().GetHandle(deployment)
	eventually(t, "the first version is the current one", func() bool {
		_, err := versions.SetCurrentVersion(t.Context(), client.WorkerDeploymentSetCurrentVersionOptions{BuildID: "1.0.0"})
		return err == nil
	})
	i := s.newInstance(t)
	loop := s.startFlushLoop(t, i)
	export := s.requestExport(t, workflows.ExportPeriodInput{})
	s.awaitStage(t, past(), billing.StageApproving)
	_, err := starter.FlushNow(t.Context(), s.client, i.id)
	require.NoError(t, err)
	require.Equal(t, []string{"1.0.0", "1.0.0"}, []string{s.buildOf(t, loop), s.buildOf(t, export)})

	eventually(t, "the second version takes all", func() bool {
		_, err := versions.SetRampingVersion(t.Context(), client.WorkerDeploymentSetRampingVersionOptions{BuildID: "1.1.0", Percentage: 100})
		return err == nil
	})
	eventually(t, "the open loop has moved", func() bool {
		_, err := starter.FlushNow(t.Context(), s.client, i.id)
		require.NoError(t, err)
		return s.buildOf(t, loop) == "1.1.0"
	})
	s.approve(t, past())
	ended, err := result[workflows.ExportPeriodResult](t, s, export)
	require.NoError(t, err)
	require.Equal(t, billing.StageClosed, ended.Export.Stage)
	require.Equal(t, "1.1.0", s.buildOf(t, export))

	_, err = versions.SetCurrentVersion(t.Context(), client.WorkerDeploymentSetCurrentVersionOptions{BuildID: "1.1.0"})
	require.NoError(t, err)
	_, err = starter.Drain(t.Context(), s.client, i.id)
	require.NoError(t, err)
}
