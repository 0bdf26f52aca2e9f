package workflows_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/internal/temporalcodec"
	"github.com/riverline/tollgate/workflows"
	"github.com/riverline/tollgate/workflows/starter"
)

// With keys the server keeps nothing of a close in the clear but what it lists by, and everything works.
func TestServerKeepsACloseEncrypted(t *testing.T) {
	t.Parallel()
	s := newSystemWithout(t)
	codec, err := temporalcodec.New("a:" + base64.StdEncoding.EncodeToString(make([]byte, 32)))
	require.NoError(t, err)
	options := client.Options{HostPort: s.address, Namespace: s.namespace, Logger: quietLogger()}
	codec.Use(&options)
	s.client, err = client.DialContext(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(s.client.Close)
	s.startWorkers(t, nil, workflows.Version{})
	run := s.requestExport(t, workflows.ExportPeriodInput{})
	s.approve(t, past())
	ended, err := result[workflows.ExportPeriodResult](t, s, run)
	require.NoError(t, err)
	require.Equal(t, billing.StageClosed, ended.Export.Stage)
	require.Equal(t, "closed", s.stage(t, run), "search attributes are in the clear: lists are by them")
	require.Contains(t, s.details(t, run), "**closed**")

	seen := 0
	sealed := func(payloads ...*commonpb.Payload) {
		for _, payload := range payloads {
			seen++
			require.Equal(t, "binary/encrypted", string(payload.GetMetadata()[converter.MetadataEncoding]), payload.String())
		}
	}
	for _, event := range s.history(t, run).GetEvents() {
		sealed(event.GetWorkflowExecutionStartedEventAttributes().GetInput().GetPayloads()...)
		for _, memo := range event.GetWorkflowExecutionStartedEventAttributes().GetMemo().GetFields() {
			sealed(memo)
		}
		sealed(event.GetActivityTaskScheduledEventAttributes().GetInput().GetPayloads()...)
		sealed(event.GetActivityTaskCompletedEventAttributes().GetResult().GetPayloads()...)
		sealed(event.GetWorkflowExecutionUpdateAcceptedEventAttributes().GetAcceptedRequest().GetInput().GetArgs().GetPayloads()...)
		sealed(event.GetWorkflowExecutionCompletedEventAttributes().GetResult().GetPayloads()...)
		if summary := event.GetUserMetadata().GetSummary(); summary != nil {
			sealed(summary)
		}
	}
	require.Greater(t, seen, 40)
}

// keyed is a system whose client and workers have these keys; with none, no keys.
func (s *system) keyed(t *testing.T, keys ...string) *system {
	t.Helper()
	codec := &temporalcodec.Codec{}
	if len(keys) > 0 {
		var err error
		codec, err = temporalcodec.New(strings.Join(keys, ","))
		require.NoError(t, err)
	}
	options := client.Options{HostPort: s.address, Namespace: s.namespace, Logger: quietLogger()}
	codec.Use(&options)
	of := *s
	var err error
	of.client, err = client.DialContext(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(of.client.Close)
	return &of
}

// failedTasks counts the tasks of a workflow that failed.
func (s *system) failedTasks(t *testing.T, run starter.Started) (failed int) {
	t.Helper()
	for _, event := range s.history(t, run).GetEvents() {
		require.NotEqual(t, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED, event.GetEventType())
		if event.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED {
			failed++
		}
	}
	return failed
}

// While a key is rotated some worker has not got it yet, or was started without keys at all. What it
// can't read waits for a worker that can: no run fails for it.
func TestServerAWorkerWithoutTheKeyFailsNoRun(t *testing.T) {
	t.Parallel()
	older := "a:" + base64.StdEncoding.EncodeToString(make([]byte, 32))
	newer := "b:" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32))
	other := "b:" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{2}, 32))
	for name, keys := range map[string][]string{"one key behind": {older}, "without keys": nil, "another key of the same ID": {other}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystemWithout(t)
			behind, rotated := s.keyed(t, keys...), s.keyed(t, newer, older)
			run := rotated.requestExport(t, workflows.ExportPeriodInput{})
			t.Run("a worker that is behind", func(t *testing.T) {
				behind.startWorkers(t, nil, workflows.Version{})
				eventually(t, "it has tried", func() bool { return rotated.failedTasks(t, run) > 0 })
			})
			rotated.startWorkers(t, nil, workflows.Version{})
			rotated.approve(t, past())
			ended, err := result[workflows.ExportPeriodResult](t, rotated, run)
			require.NoError(t, err)
			require.Equal(t, billing.StageClosed, ended.Export.Stage)
		})
	}
}

// A decision that the worker can't read is not taken, which says that it may be sent again.
func TestServerADecisionNeedsAWorkerWithTheKey(t *testing.T) {
	t.Parallel()
	older := "a:" + base64.StdEncoding.EncodeToString(make([]byte, 32))
	newer := "b:" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32))
	s := newSystemWithout(t)
	behind, rotated := s.keyed(t, older), s.keyed(t, newer, older)
	run := behind.requestExport(t, workflows.ExportPeriodInput{})
	t.Run("a worker that is behind", func(t *testing.T) {
		behind.startWorkers(t, nil, workflows.Version{})
		behind.awaitStage(t, past(), billing.StageApproving)
		var failed *temporal.ApplicationError
		require.ErrorAs(t, rotated.decide(t, approval()), &failed)
		require.False(t, failed.NonRetryable())
		require.Empty(t, s.store.decided())
	})
	rotated.startWorkers(t, nil, workflows.Version{})
	require.NoError(t, rotated.decide(t, approval()))
	ended, err := result[workflows.ExportPeriodResult](t, rotated, run)
	require.NoError(t, err)
	require.Equal(t, billing.StageClosed, ended.Export.Stage)
}
