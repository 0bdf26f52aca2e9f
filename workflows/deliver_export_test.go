package workflows_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/sinks"
	"github.com/riverline/tollgate/workflows"
)

const deliverID = "export/2026-10/deliver"

func deliverInput() workflows.DeliverExportInput {
	return workflows.DeliverExportInput{Period: "2026-10", Export: uuid.Max, RequestedBy: "finance"}
}

// sinking says which sinks there are.
func (e environment) sinking(names ...string) {
	e.OnActivity(onSinks.ListSinks, mock.Anything).Return(activities.ListSinksResult{Sinks: names}, nil).Once()
}

func (e environment) planning(until ...uuid.UUID) {
	e.OnActivity(onSinks.PlanDelivery, mock.Anything, activities.PlanDeliveryInput{Export: uuid.Max, PageSize: 2500}).
		Return(activities.PlanDeliveryResult{Until: until}, nil).Once()
}

// Pages follow each other without a gap, four at a time, and their counts are added up.
func TestDeliverExport(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, deliverID)
	env.sinking("stripe")
	var until []uuid.UUID
	for i := range 5 {
		until = append(until, uuid.UUID{0: byte(i + 1)})
	}
	env.planning(until...)
	var after uuid.UUID
	for _, last := range until {
		env.OnActivity(onSinks.DeliverStatements, mock.Anything, activities.DeliverStatementsInput{Export: uuid.Max, Sink: "stripe", After: after, Until: last}).
			Return(activities.DeliverStatementsResult{Counts: sinks.Counts{Delivered: 10, NoCustomer: 2, Failed: 1}}, nil).After(time.Minute).Once()
		after = last
	}
	env.RegisterDelayedCallback(func() {
		p := progress[workflows.DeliverExportProgress](t, env)
		require.Equal(t, billing.StageDelivering, p.Stage)
		require.Equal(t, []workflows.SinkDelivery{{Sink: "stripe", Pages: 5, PagesDone: 4, Counts: sinks.Counts{Delivered: 40, NoCustomer: 8, Failed: 4}}}, p.Sinks)
	}, 90*time.Second)
	out, err := ended[workflows.DeliverExportProgress](t, env, workflows.DeliverExport, deliverInput())
	require.NoError(t, err)
	require.Equal(t, workflows.DeliverExportProgress{
		Period: "2026-10", Export: uuid.Max, RequestedBy: "finance", Stage: billing.StageDone,
		Sinks: []workflows.SinkDelivery{{Sink: "stripe", Pages: 5, PagesDone: 5, Counts: sinks.Counts{Delivered: 50, NoCustomer: 10, Failed: 5}}},
	}, out)
}

func TestDeliverExportWithoutASink(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, deliverID)
	env.sinking()
	in := deliverInput()
	in.RequestedBy = ""
	out, err := ended[workflows.DeliverExportProgress](t, env, workflows.DeliverExport, in)
	require.NoError(t, err)
	require.Empty(t, out.Sinks)
	require.Equal(t, billing.StageDone, out.Stage)
	require.Equal(t, "temporal-ui", out.RequestedBy)
}

func TestDeliverExportFails(t *testing.T) {
	t.Parallel()
	notIssued := temporal.NewNonRetryableApplicationError("not issued", activities.TypeNotIssued, nil)
	for name, fail := range map[string]func(environment){
		"ListSinks": func(e environment) {
			e.OnActivity(onSinks.ListSinks, mock.Anything).Return(activities.ListSinksResult{}, notIssued).Once()
		},
		"PlanDelivery": func(e environment) {
			e.sinking("stripe")
			e.OnActivity(onSinks.PlanDelivery, mock.Anything, mock.Anything).Return(activities.PlanDeliveryResult{}, notIssued).Once()
		},
		"DeliverStatements": func(e environment) {
			e.sinking("stripe")
			e.planning(uuid.Max)
			e.OnActivity(onSinks.DeliverStatements, mock.Anything, mock.Anything).Return(activities.DeliverStatementsResult{}, notIssued).Once()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t, deliverID)
			fail(env)
			_, err := ended[workflows.DeliverExportProgress](t, env, workflows.DeliverExport, deliverInput())
			requireRefused(t, err, activities.TypeNotIssued, "not issued")
			p := progress[workflows.DeliverExportProgress](t, env)
			require.Equal(t, []string{"failed", "not issued"}, []string{string(p.Stage), p.Error})
		})
	}
}

func TestDeliverExportIsCanceled(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, deliverID)
	env.sinking("stripe")
	env.planning(uuid.Max)
	env.OnActivity(onSinks.DeliverStatements, mock.Anything, mock.Anything).Return(activities.DeliverStatementsResult{}, nil).After(time.Hour).Maybe()
	env.RegisterDelayedCallback(env.CancelWorkflow, time.Minute)
	_, err := ended[workflows.DeliverExportProgress](t, env, workflows.DeliverExport, deliverInput())
	var canceled *temporal.CanceledError
	require.ErrorAs(t, err, &canceled)
	require.Equal(t, billing.StageCanceled, progress[workflows.DeliverExportProgress](t, env).Stage)
}

func TestDeliverExportRefuses(t *testing.T) {
	t.Parallel()
	for says, change := range map[string]func(*workflows.DeliverExportInput) string{
		"period is missing": func(in *workflows.DeliverExportInput) string { in.Period = ""; return deliverID },
		"export is missing": func(in *workflows.DeliverExportInput) string { in.Export = uuid.Nil; return deliverID },
		`the workflow ID is "another": it must be "export/2026-10/deliver"`: func(*workflows.DeliverExportInput) string { return "another" },
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			in := deliverInput()
			id := change(&in)
			_, err := ended[workflows.DeliverExportProgress](t, newEnvironment(t, id), workflows.DeliverExport, in)
			requireRefused(t, err, workflows.TypeInvalidInput, says)
		})
	}
}

// closing makes an environment of an export that is approved after an hour, with a sink.
func closing(t *testing.T) environment {
	t.Helper()
	env := waiting(t, 0, 0)
	env.recording(billing.ActionApproved)
	for _, step := range env.untilClosed() {
		if step.name == "ListSinks" {
			step.expect = func() { env.sinking("stripe") }
		}
		step.expect()
	}
	env.decide(time.Hour, approval())
	return env
}

// fromExport is what an export asks of its delivery.
func fromExport() workflows.DeliverExportInput {
	in := deliverInput()
	in.RequestedBy = "export"
	return in
}

func TestExportPeriodDelivers(t *testing.T) {
	t.Parallel()
	env := closing(t)
	done := []workflows.SinkDelivery{{Sink: "stripe", Pages: 1, PagesDone: 1, Counts: sinks.Counts{Delivered: 1, NoCustomer: 1}}}
	env.OnWorkflow(workflows.DeliverExport, mock.Anything, fromExport()).Return(workflows.DeliverExportProgress{Sinks: done}, nil).After(time.Minute).Once()
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, requestedInput())
	require.NoError(t, err)
	require.Equal(t, billing.StageClosed, out.Export.Stage)
	require.Equal(t, done, out.Export.Deliveries)
	require.Empty(t, out.Export.DeliveryError)
}

// A delivery that fails, or that somebody cancels, holds up no close.
func TestExportPeriodIsClosedThoughTheDeliveryFails(t *testing.T) {
	t.Parallel()
	for says, failure := range map[string]error{
		"no sink":  temporal.NewNonRetryableApplicationError("no sink", activities.TypeNoSink, nil),
		"canceled": temporal.NewCanceledError(),
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			env := closing(t)
			env.OnWorkflow(workflows.DeliverExport, mock.Anything, fromExport()).Return(workflows.DeliverExportProgress{}, failure).Once()
			out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, requestedInput())
			require.NoError(t, err)
			require.Equal(t, billing.StageClosed, out.Export.Stage)
			require.Contains(t, out.Export.DeliveryError, says)
		})
	}
}

// One of the period that runs already is that of the revision before: it is waited for.
func TestExportPeriodWaitsForAnotherDelivery(t *testing.T) {
	t.Parallel()
	env := closing(t)
	env.OnWorkflow(workflows.DeliverExport, mock.Anything, fromExport()).Return(workflows.DeliverExportProgress{}, runsAlready).Times(3)
	for range 3 {
		env.awaiting("export/2026-10/deliver", time.Hour)
	}
	done := []workflows.SinkDelivery{{Sink: "stripe", Counts: sinks.Counts{Delivered: 2}}}
	env.OnWorkflow(workflows.DeliverExport, mock.Anything, fromExport()).Return(workflows.DeliverExportProgress{Sinks: done}, nil).Once()
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, requestedInput())
	require.NoError(t, err)
	require.Equal(t, billing.StageClosed, out.Export.Stage)
	require.Equal(t, done, out.Export.Deliveries)
}
