package activities_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/riverline/tollgate/activities"
)

var (
	now      = time.Date(2026, 10, 17, 12, 0, 0, 0, time.UTC)
	errAway  = errors.New("the store is away")
	errCurse = permanentError("the row is cursed")
)

// permanentError says of itself that it would come again.
type permanentError string

func (e permanentError) Error() string { return string(e) }
func (permanentError) Retryable() bool { return false }

// passingError says of itself that it may pass.
type passingError string

func (e passingError) Error() string { return string(e) }
func (passingError) Retryable() bool { return true }

// environment runs activities as a worker does, and keeps their heartbeats.
type environment struct {
	*testsuite.TestActivityEnvironment
	interceptor.WorkerInterceptorBase
	mu    sync.Mutex
	beats []any
	stop  chan struct{}
}

func newEnvironment(t *testing.T, group any) *environment {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	e := &environment{TestActivityEnvironment: suite.NewTestActivityEnvironment(), stop: make(chan struct{})}
	e.RegisterActivity(group)
	e.SetTestTimeout(20 * time.Second)
	e.SetWorkerStopChannel(e.stop)
	e.cancelWith(t.Context())
	return e
}

// cancelWith gives activities a context that the test may cancel, as a worker does
// when the workflow cancels an activity.
func (e *environment) cancelWith(ctx context.Context) {
	e.SetWorkerOptions(worker.Options{BackgroundActivityContext: ctx, Interceptors: []interceptor.WorkerInterceptor{e}})
}

// InterceptActivity keeps heartbeats before the worker holds any of them back.
func (e *environment) InterceptActivity(ctx context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	in := &inbound{environment: e}
	in.Next = next
	return in
}

type inbound struct {
	interceptor.ActivityInboundInterceptorBase
	environment *environment
}

func (i *inbound) Init(outbound interceptor.ActivityOutboundInterceptor) error {
	out := &outboundKeeper{environment: i.environment}
	out.Next = outbound
	return i.Next.Init(out)
}

type outboundKeeper struct {
	interceptor.ActivityOutboundInterceptorBase
	environment *environment
}

func (o *outboundKeeper) RecordHeartbeat(ctx context.Context, details ...any) {
	o.environment.mu.Lock()
	o.environment.beats = append(o.environment.beats, details...)
	o.environment.mu.Unlock()
	o.Next.RecordHeartbeat(ctx, details...)
}

// run runs an activity and returns its result.
func run[T any](t *testing.T, e *environment, method any, args ...any) (T, error) {
	t.Helper()
	value, err := e.ExecuteActivity(method, args...)
	var out T
	if err == nil && value != nil && value.HasValue() {
		require.NoError(t, value.Get(&out))
	}
	return out, err
}

// heartbeats returns what was heartbeated so far.
func heartbeats[T any](t *testing.T, e *environment) []T {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []T
	for _, details := range e.beats {
		one, ok := details.(T)
		require.True(t, ok, "%T", details)
		out = append(out, one)
	}
	return out
}

// requirePermanent checks that an error is not tried again, and has a type.
func requirePermanent(t *testing.T, err error, kind, says string) {
	t.Helper()
	var decided *temporal.ApplicationError
	require.ErrorAs(t, err, &decided)
	require.True(t, decided.NonRetryable(), err)
	require.Equal(t, kind, decided.Type())
	require.ErrorContains(t, err, says)
}

// requireTriedAgain checks that an error is tried again.
func requireTriedAgain(t *testing.T, err error, says string) {
	t.Helper()
	require.ErrorContains(t, err, says)
	var decided *temporal.ApplicationError
	if errors.As(err, &decided) {
		require.False(t, decided.NonRetryable(), err)
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	text, err := activities.Duration(90 * time.Second).MarshalText()
	require.NoError(t, err)
	require.Equal(t, "1m30s", string(text))
	var d activities.Duration
	require.NoError(t, d.UnmarshalText([]byte("250ms")))
	require.Equal(t, activities.Duration(250*time.Millisecond), d)
	require.NoError(t, d.UnmarshalText(nil))
	require.Zero(t, d)
	require.ErrorContains(t, d.UnmarshalText([]byte("soon")), `duration "soon" must have the form of 1m30s`)
}

func TestConstructorsRefuseWhatIsMissing(t *testing.T) {
	t.Parallel()
	for name, construct := range map[string]func(){
		"instance": func() { activities.NewInstance(activities.InstanceConfig{ID: uuid.Max}) },
		"fleet":    func() { activities.NewFleet(activities.FleetConfig{}) },
		"rollup":   func() { activities.NewRollup(activities.RollupConfig{}) },
		"credits":  func() { activities.NewCredits(activities.CreditsConfig{}) },
		"webhooks": func() { activities.NewWebhooks(activities.WebhooksConfig{}) },
		"export":   func() { activities.NewExport(activities.ExportConfig{Program: "1"}) },
		"runs":     func() { activities.NewRuns(activities.RunsConfig{}) },
		"sinks":    func() { activities.NewSinks(activities.SinksConfig{}) },
	} {
		require.Panics(t, construct, name)
	}
}
