package starter_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/mocks"
	"google.golang.org/grpc"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/temporalcodec"
	"github.com/riverline/tollgate/internal/temporaltest"
	"github.com/riverline/tollgate/workflows"
	"github.com/riverline/tollgate/workflows/starter"
)

func TestMain(m *testing.M) { temporaltest.Main(m) }

func TestEnsureSchedules(t *testing.T) {
	t.Parallel()
	c := temporaltest.NewNamespace(t)
	changed, err := starter.EnsureSchedules(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, []string{workflows.DailyRollUpScheduleID, workflows.MonthlyExportScheduleID, workflows.HousekeepingScheduleID}, changed)
	changed, err = starter.EnsureSchedules(t.Context(), c)
	require.NoError(t, err)
	require.Empty(t, changed, "a schedule that is as it must be stays untouched")

	daily := c.ScheduleClient().GetHandle(t.Context(), workflows.DailyRollUpScheduleID)
	described, err := daily.Describe(t.Context())
	require.NoError(t, err)
	next := described.Info.NextActionTimes[0].UTC()
	require.Equal(t, "00:05:00", next.Format("15:04:05"))
	require.Equal(t, enumspb.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL, described.Schedule.Policy.Overlap)
	require.Equal(t, 35*24*time.Hour, described.Schedule.Policy.CatchupWindow)
	require.Equal(t, "DailyRollUp", described.Schedule.Action.(*client.ScheduleWorkflowAction).Workflow)

	monthly := c.ScheduleClient().GetHandle(t.Context(), workflows.MonthlyExportScheduleID)
	described, err = monthly.Describe(t.Context())
	require.NoError(t, err)
	for _, at := range described.Info.NextActionTimes {
		require.Equal(t, "01 00:30:00", at.UTC().Format("02 15:04:05"))
	}
	require.Equal(t, "MonthlyExport", described.Schedule.Action.(*client.ScheduleWorkflowAction).Workflow)
}

// What the server keeps encrypted is compared as it is: nothing is updated each minute because the same
// is encrypted otherwise each time.
func TestEnsureSchedulesThatAreEncrypted(t *testing.T) {
	t.Parallel()
	codec, err := temporalcodec.New("a:" + base64.StdEncoding.EncodeToString(make([]byte, 32)))
	require.NoError(t, err)
	namespace := temporaltest.Register(t)
	options := client.Options{HostPort: namespace.Address, Namespace: namespace.Name}
	codec.Use(&options)
	c, err := client.DialContext(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	changed, err := starter.EnsureSchedules(t.Context(), c, codec)
	require.NoError(t, err)
	require.Len(t, changed, 3)
	changed, err = starter.EnsureSchedules(t.Context(), c, codec)
	require.NoError(t, err)
	require.Empty(t, changed)
}

// What an operator has decided stays; what the program decides is put right.
func TestEnsureSchedulesKeepsAnOperatorsPause(t *testing.T) {
	t.Parallel()
	c := temporaltest.NewNamespace(t)
	_, err := starter.EnsureSchedules(t.Context(), c)
	require.NoError(t, err)
	handle := c.ScheduleClient().GetHandle(t.Context(), workflows.MonthlyExportScheduleID)
	require.NoError(t, handle.Pause(t.Context(), client.SchedulePauseOptions{Note: "finance closes by hand until May"}))
	err = handle.Update(t.Context(), client.ScheduleUpdateOptions{DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
		schedule := in.Description.Schedule
		schedule.Spec = &client.ScheduleSpec{Intervals: []client.ScheduleIntervalSpec{{Every: 7 * 24 * time.Hour}}}
		schedule.Policy.Overlap = enumspb.SCHEDULE_OVERLAP_POLICY_SKIP
		return &client.ScheduleUpdate{Schedule: &schedule}, nil
	}})
	require.NoError(t, err)

	var workers sync.WaitGroup
	for range 4 { // several workers start at once
		workers.Go(func() {
			if _, err := starter.EnsureSchedules(t.Context(), c); err != nil {
				t.Error(err)
			}
		})
	}
	workers.Wait()
	described, err := handle.Describe(t.Context())
	require.NoError(t, err)
	require.True(t, described.Schedule.State.Paused)
	require.Equal(t, "finance closes by hand until May", described.Schedule.State.Note)
	require.Empty(t, described.Schedule.Spec.Intervals)
	require.Equal(t, enumspb.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL, described.Schedule.Policy.Overlap)
	require.Equal(t, "01 00:30:00", described.Info.NextActionTimes[0].UTC().Format("02 15:04:05"))
}

func TestPrepareIsRepeatable(t *testing.T) {
	t.Parallel()
	namespace := temporaltest.Register(t)
	c := namespace.Dial(t)
	for range 2 {
		_, err := starter.Prepare(t.Context(), c, namespace.Name, slog.Default())
		require.NoError(t, err)
	}
	present, err := c.OperatorService().ListSearchAttributes(t.Context(), &operatorservice.ListSearchAttributesRequest{Namespace: namespace.Name})
	require.NoError(t, err)
	for _, name := range []string{"TollgatePeriod", "TollgateOrganization", "TollgateInstance", "TollgateStage"} {
		require.Equal(t, enumspb.INDEXED_VALUE_TYPE_KEYWORD, present.GetCustomAttributes()[name], name)
	}
	require.Len(t, present.GetCustomAttributes(), 4)
}

// operator is a server's operator service that answers as it is told.
type operator struct {
	operatorservice.OperatorServiceClient
	present map[string]enumspb.IndexedValueType
	listErr error
	addErr  error
	added   map[string]enumspb.IndexedValueType
}

func (o *operator) ListSearchAttributes(context.Context, *operatorservice.ListSearchAttributesRequest, ...grpc.CallOption) (*operatorservice.ListSearchAttributesResponse, error) {
	return &operatorservice.ListSearchAttributesResponse{CustomAttributes: o.present}, o.listErr
}

func (o *operator) AddSearchAttributes(_ context.Context, in *operatorservice.AddSearchAttributesRequest, _ ...grpc.CallOption) (*operatorservice.AddSearchAttributesResponse, error) {
	o.added = in.GetSearchAttributes()
	return &operatorservice.AddSearchAttributesResponse{}, o.addErr
}

func TestEnsureSearchAttributes(t *testing.T) {
	t.Parallel()
	const keyword, text = enumspb.INDEXED_VALUE_TYPE_KEYWORD, enumspb.INDEXED_VALUE_TYPE_TEXT
	all := map[string]enumspb.IndexedValueType{"TollgatePeriod": keyword, "TollgateOrganization": keyword, "TollgateInstance": keyword, "TollgateStage": keyword}
	away := errors.New("connection refused")
	for _, tc := range []struct {
		name   string
		server operator
		added  int
		// says is empty where there is no error, byHand true where an operator may help.
		says   string
		byHand bool
	}{
		{name: "none there", added: 4},
		{name: "all there", server: operator{present: all}},
		{name: "one missing", server: operator{present: map[string]enumspb.IndexedValueType{"TollgatePeriod": keyword, "TollgateOrganization": keyword, "TollgateInstance": keyword}}, added: 1},
		{name: "another was faster", server: operator{addErr: serviceerror.NewAlreadyExists("there")}, added: 4},
		{
			name: "wrong type", server: operator{present: map[string]enumspb.IndexedValueType{"TollgatePeriod": text}},
			says: "namespace finance has the search attribute TollgatePeriod as Text, and it must be Keyword",
		},
		{
			name: "may not look", server: operator{listErr: serviceerror.NewPermissionDenied("no", "")}, byHand: true,
			says: "TollgatePeriod, TollgateOrganization, TollgateInstance, TollgateStage. With `temporal operator search-attribute create --namespace finance",
		},
		{
			name: "may not add", added: 1, byHand: true,
			server: operator{
				present: map[string]enumspb.IndexedValueType{"TollgatePeriod": keyword, "TollgateOrganization": keyword, "TollgateInstance": keyword},
				addErr:  serviceerror.NewUnimplemented("use the control plane"),
			},
			says: "each of type Keyword: TollgateStage. With",
		},
		{name: "away", server: operator{listErr: away}, says: "register search attributes in namespace finance: connection refused"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := mocks.NewClient(t)
			c.On("OperatorService").Return(&tc.server)
			err := starter.EnsureSearchAttributes(t.Context(), c, "finance")
			require.Len(t, tc.server.added, tc.added)
			if tc.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.says)
			require.Equal(t, tc.byHand, errors.Is(err, starter.ErrSearchAttributes))
		})
	}
}

// Where search attributes are managed elsewhere, everything else is still made.
func TestPrepareWithoutTheRightToRegister(t *testing.T) {
	t.Parallel()
	c := mocks.NewClient(t)
	schedules := mocks.NewScheduleClient(t)
	c.On("OperatorService").Return(&operator{listErr: serviceerror.NewPermissionDenied("no", "")})
	c.On("ScheduleClient").Return(schedules)
	handle, missing := mocks.NewScheduleHandle(t), serviceerror.NewNotFound("no")
	schedules.On("GetHandle", mock.Anything, mock.Anything).Return(handle)
	handle.On("Describe", mock.Anything).Return(nil, missing)
	schedules.On("Create", mock.Anything, mock.Anything).Return(nil, nil).Times(len(workflows.Schedules()))
	var log bytes.Buffer
	changed, err := starter.Prepare(t.Context(), c, "finance", slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)
	require.Len(t, changed, len(workflows.Schedules()))
	require.Contains(t, log.String(), "search-attribute create --namespace finance")

	refused := errors.New("refused")
	schedules.On("Create", mock.Anything, mock.Anything).Return(nil, refused)
	_, err = starter.EnsureSchedules(t.Context(), c)
	require.ErrorIs(t, err, refused)
}

func TestNothingRuns(t *testing.T) {
	t.Parallel()
	c := temporaltest.NewNamespace(t)
	for name, call := range map[string]func() error{
		"flush": func() error { _, err := starter.FlushNow(t.Context(), c, uuid.Max); return err },
		"drain": func() error { _, err := starter.Drain(t.Context(), c, uuid.Max); return err },
		"export progress": func() error {
			_, err := starter.ExportProgress(t.Context(), c, calendar.PeriodOf(time.Unix(0, 0)))
			return err
		},
	} {
		require.ErrorIs(t, call(), starter.ErrNotRunning, name)
	}
}

func TestUILink(t *testing.T) {
	t.Parallel()
	link, err := starter.Started{WorkflowID: "export/2026-10", RunID: "0199a000"}.UILink("https://temporal.example.com/ui/", "default")
	require.NoError(t, err)
	require.Equal(t, "https://temporal.example.com/ui/namespaces/default/workflows/export%2F2026-10/0199a000/history", link)
	link, err = starter.Started{WorkflowID: "flush/0199a000"}.UILink("https://temporal.example.com/ui/", "default")
	require.NoError(t, err)
	require.Equal(t, "https://temporal.example.com/ui/namespaces/default/workflows?query=WorkflowId%3D%22flush%2F0199a000%22", link)
	_, err = starter.Started{}.UILink("://", "default")
	require.ErrorContains(t, err, "link to Temporal's UI")
}
