package workflows_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/workflows"
	"github.com/riverline/tollgate/workflows/starter"
)

func TestServerFlushLoopFlushesNowAndDrains(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	i := s.newInstance(t)
	run := s.startFlushLoop(t, i)
	again := s.startFlushLoop(t, i)
	require.Equal(t, starter.Started{WorkflowID: run.WorkflowID, RunID: run.RunID, Joined: true}, again)
	require.False(t, run.Joined)
	eventually(t, "two epochs", func() bool {
		p, err := progressOf[workflows.FlushLoopProgress](t, s, workflows.FlushLoopID(i.id))
		return err == nil && p.Epochs >= 2 && p.Flushes >= 4
	})
	require.Equal(t, "flushing", s.stage(t, run))
	require.Contains(t, s.details(t, run), "Flushes instance "+i.id.String()+" on host-1")
	require.Contains(t, s.details(t, run), "**flushing**")

	summary, err := starter.FlushNow(t.Context(), s.client, i.id)
	require.NoError(t, err)
	require.Equal(t, 1, summary.Flushes)
	require.Equal(t, 3, summary.Rows)
	require.Positive(t, summary.Seq)

	drained, err := starter.Drain(t.Context(), s.client, i.id)
	require.NoError(t, err)
	require.Greater(t, drained.Seq, summary.Seq)
	ended, err := result[workflows.FlushLoopResult](t, s, run)
	require.NoError(t, err)
	require.Equal(t, workflows.FlushDrained, ended.Progress.Stage)
	require.Equal(t, drained.Seq, ended.Progress.Seq)
	require.Equal(t, "drained", s.stage(t, run))
	kept := s.store.instance(i.id)
	require.Equal(t, meter.InstanceStopped, kept.Status)
	// The epoch that ran has ended without another flush.
	time.Sleep(300 * time.Millisecond)
	require.Equal(t, kept, s.store.instance(i.id))
	require.Contains(t, s.summaries(t, run), `"flush for 300ms"`)
	require.Contains(t, s.summaries(t, run), `"flush now"`)
	s.keep(t, "flush-loop-flush-now-and-drain", run)

	_, err = starter.FlushNow(t.Context(), s.client, i.id)
	require.ErrorIs(t, err, starter.ErrNotRunning)
	// An instance that goes on has a loop again, and can be flushed by it.
	next := s.startFlushLoop(t, i)
	require.NotEqual(t, run.RunID, next.RunID)
	_, err = starter.FlushNow(t.Context(), s.client, i.id)
	require.NoError(t, err)
	require.Equal(t, meter.InstanceLive, s.store.instance(i.id).Status)
}

func TestServerFlushLoopOutlivesAStoreThatIsAway(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	i := s.newInstance(t)
	i.flusher.fail(errAway)
	run := s.startFlushLoop(t, i)
	_, err := starter.FlushNow(t.Context(), s.client, i.id)
	require.ErrorContains(t, err, "the store is away")
	eventually(t, "a pending activity that shows why", func() bool {
		described, err := s.client.DescribeWorkflowExecution(t.Context(), run.WorkflowID, run.RunID)
		require.NoError(t, err)
		for _, pending := range described.GetPendingActivities() {
			if strings.Contains(pending.GetLastFailure().GetMessage(), "none of") {
				return true
			}
		}
		return false
	})
	_, err = starter.Drain(t.Context(), s.client, i.id)
	require.ErrorContains(t, err, "the store is away")
	i.flusher.fail(nil)
	eventually(t, "a flush", func() bool { return s.store.instance(i.id).LastSeq > 0 })
	_, err = starter.Drain(t.Context(), s.client, i.id)
	require.NoError(t, err)
	_, err = result[workflows.FlushLoopResult](t, s, run)
	require.NoError(t, err)
	s.keep(t, "flush-loop-store-away", run)
}

func TestServerFlushLoopDeclaresAnInstanceLost(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	i := s.newInstance(t)
	run := s.startFlushLoop(t, i)
	eventually(t, "a flush", func() bool { return s.store.instance(i.id).LastSeq > 0 })
	i.stop()
	_, err := starter.FlushNow(t.Context(), s.client, i.id)
	var refused *temporal.ApplicationError
	if err != nil { // the loop may have ended first
		require.ErrorAs(t, err, &refused)
		require.Contains(t, []string{workflows.TypeInstanceUnreachable, workflows.TypeDraining}, refused.Type())
	}
	ended, err := result[workflows.FlushLoopResult](t, s, run)
	require.NoError(t, err)
	require.Equal(t, workflows.FlushLost, ended.Progress.Stage)
	require.Equal(t, meter.InstanceLost, s.store.instance(i.id).Status)
	require.Equal(t, "lost", s.stage(t, run))
	s.keep(t, "flush-loop-lost", run)
}

// Temporal can't reach the instance, but the store sees it: it is alive.
func TestServerFlushLoopKeepsAnInstanceThatTheStoreSees(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	i := s.newInstance(t)
	run := s.startFlushLoop(t, i)
	eventually(t, "a flush", func() bool { return s.store.instance(i.id).LastSeq > 0 })
	i.stop()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { // the instance's own ticker
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				_, _ = i.flusher.Flush(ctx)
			}
		}
	}()
	eventually(t, "the loop asks the store", func() bool {
		return slices.Contains(s.summaries(t, run), `"not seen for 2s?"`)
	})
	s.startWorker(t, i)
	before, err := progressOf[workflows.FlushLoopProgress](t, s, workflows.FlushLoopID(i.id))
	require.NoError(t, err)
	require.Equal(t, workflows.FlushRunning, before.Stage)
	eventually(t, "an epoch more", func() bool {
		p, err := progressOf[workflows.FlushLoopProgress](t, s, workflows.FlushLoopID(i.id))
		return err == nil && p.Epochs > before.Epochs
	})
	_, err = starter.Drain(t.Context(), s.client, i.id)
	require.NoError(t, err)
	_, err = result[workflows.FlushLoopResult](t, s, run)
	require.NoError(t, err)
	s.keep(t, "flush-loop-alive", run)
}

func TestServerFlushLoopContinuesAsNew(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	i := s.newInstance(t)
	run := s.startFlushLoop(t, i)
	eventually(t, "an epoch", func() bool {
		p, err := progressOf[workflows.FlushLoopProgress](t, s, workflows.FlushLoopID(i.id))
		return err == nil && p.Epochs > 0
	})
	// The server suggests it for a history beyond 4 MB.
	ballast := bytes.Repeat([]byte("x"), 1_500_000)
	for range 3 {
		require.NoError(t, s.client.SignalWorkflow(t.Context(), run.WorkflowID, run.RunID, "ballast", ballast))
	}
	_, err := result[workflows.FlushLoopResult](t, s, run)
	require.Error(t, err, "the first run continued as new")
	first := s.history(t, run).GetEvents()
	continued := first[len(first)-1].GetWorkflowExecutionContinuedAsNewEventAttributes()
	require.NotNil(t, continued)
	s.keep(t, "flush-loop-continued-as-new", run)

	p, err := progressOf[workflows.FlushLoopProgress](t, s, workflows.FlushLoopID(i.id))
	require.NoError(t, err)
	require.Positive(t, p.Epochs, "it goes on counting")
	next := starter.Started{WorkflowID: run.WorkflowID, RunID: continued.GetNewExecutionRunId()}
	require.Equal(t, "flushing", s.stage(t, next))
	require.Contains(t, s.details(t, next), "instance `"+i.id.String()+"` on host-1")
	_, err = starter.Drain(t.Context(), s.client, i.id)
	require.NoError(t, err)
	ended, err := result[workflows.FlushLoopResult](t, s, next)
	require.NoError(t, err)
	require.GreaterOrEqual(t, ended.Progress.Flushes, p.Flushes)
	s.keep(t, "flush-loop-continued-and-drained", next)
}

func TestServerFlushLoopIsCanceled(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	i := s.newInstance(t)
	run := s.startFlushLoop(t, i)
	eventually(t, "a flush", func() bool { return s.store.instance(i.id).LastSeq > 0 })
	require.NoError(t, s.client.CancelWorkflow(t.Context(), run.WorkflowID, run.RunID))
	_, err := result[workflows.FlushLoopResult](t, s, run)
	var canceled *temporal.CanceledError
	require.ErrorAs(t, err, &canceled)
	s.keep(t, "flush-loop-canceled", run)
}
