package workflows_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/sinks"
	"github.com/riverline/tollgate/workflows"
	"github.com/riverline/tollgate/workflows/starter"
)

func newSystemWithSink(t *testing.T) *system {
	t.Helper()
	return newSystemWith(t, func(store *fakeStore) activities.Sink { return fakeSink{store} })
}

// A close delivers its statements in a workflow of its own; one that the sink refuses, and one
// without a customer, hold up nothing, and are delivered by hand.
func TestServerExportIsDelivered(t *testing.T) {
	t.Parallel()
	s := newSystemWithSink(t)
	first, second := s.store.usage[0].Organization, s.store.usage[2].Organization
	s.store.customers[first] = true
	var refuses atomic.Bool
	refuses.Store(true)
	s.store.hook = func(_ context.Context, what string) error {
		if what == "Deliver" && refuses.Load() {
			return &sinks.Error{Sink: sinks.Stripe, Refused: true, Err: errors.New("no such customer")}
		}
		return nil
	}
	run := s.requestExport(t, workflows.ExportPeriodInput{})
	s.approve(t, past())
	ended, err := result[workflows.ExportPeriodResult](t, s, run)
	require.NoError(t, err)
	require.Equal(t, billing.StageClosed, ended.Export.Stage)
	require.Equal(t, []workflows.SinkDelivery{{Sink: sinks.Stripe, Pages: 2, PagesDone: 2, Counts: sinks.Counts{NoCustomer: 1, Failed: 1}}}, ended.Export.Deliveries)
	require.Contains(t, s.details(t, run), "stripe: 0 delivered, 1 without a customer, 1 failed")
	require.Empty(t, s.store.allHanded())
	s.keep(t, "export-delivered", run)
	delivery := starter.Started{WorkflowID: workflows.DeliverExportID(past())}
	require.Equal(t, "done", s.stage(t, delivery))
	require.Contains(t, s.details(t, delivery), "Delivers the statements of the billing period "+past().String())
	s.keep(t, "deliver-export", delivery)

	refuses.Store(false)
	s.store.mu.Lock()
	s.store.customers[second] = true
	s.store.mu.Unlock()
	again, err := starter.StartDeliverExport(t.Context(), s.client, workflows.DeliverExportInput{Period: past().String(), Export: ended.Export.ID, RequestedBy: "finance"})
	require.NoError(t, err)
	require.False(t, again.Joined)
	done, err := result[workflows.DeliverExportProgress](t, s, again)
	require.NoError(t, err)
	require.Equal(t, sinks.Counts{Delivered: 2}, done.Sinks[0].Counts)
	require.Len(t, s.store.allHanded(), 2)
	progress, err := progressOf[workflows.DeliverExportProgress](t, s, workflows.DeliverExportID(past()))
	require.NoError(t, err)
	require.Equal(t, done, progress)
}

// The worker dies once a sink has taken a statement, and before that is recorded: another
// attempt hands it over again, and the sink takes it once.
func TestServerExportIsDeliveredOnce(t *testing.T) {
	t.Parallel()
	s := newSystemWithSink(t)
	for _, total := range s.store.usage {
		s.store.customers[total.Organization] = true
	}
	var failures atomic.Int64
	s.store.hook = func(_ context.Context, what string) error {
		if what == "MarkStatementDelivered" && failures.Add(1) <= 2 {
			return errAway
		}
		return nil
	}
	run := s.requestExport(t, workflows.ExportPeriodInput{})
	s.approve(t, past())
	ended, err := result[workflows.ExportPeriodResult](t, s, run)
	require.NoError(t, err)
	require.Equal(t, sinks.Counts{Delivered: 2}, ended.Export.Deliveries[0].Counts)
	require.Len(t, s.store.allHanded(), 2)
}

// A delivery by hand that is canceled ends, and says so.
func TestServerDeliveryIsCanceled(t *testing.T) {
	t.Parallel()
	s := newSystemWithSink(t)
	reached, let := s.store.blockOn("IssuedStatements")
	defer let()
	run := s.requestExport(t, workflows.ExportPeriodInput{})
	s.approve(t, past())
	require1(t, reached, "the export delivers")
	delivery := starter.Started{WorkflowID: workflows.DeliverExportID(past())}
	require.NoError(t, s.client.CancelWorkflow(t.Context(), delivery.WorkflowID, ""))
	ended, err := result[workflows.ExportPeriodResult](t, s, run)
	require.NoError(t, err)
	require.Equal(t, billing.StageClosed, ended.Export.Stage)
	require.NotEmpty(t, ended.Export.DeliveryError)
	require.Equal(t, "canceled", s.stage(t, delivery))
	s.keep(t, "deliver-export-canceled", delivery)
	s.keep(t, "export-delivery-canceled", run)
}
