package workflows_test

import (
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/internal/temporalcodec"
	"github.com/riverline/tollgate/workflows"
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
