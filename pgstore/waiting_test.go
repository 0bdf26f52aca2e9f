package pgstore_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/meter"
)

// An instance says with each batch what is under way, also with one that only moves the watermark,
// and that nothing is any more.
func TestInstanceSaysWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := f.instance()
	require.Zero(t, f.instanceNow(w.id).Open)
	open := meter.OpenUsage{Count: 3, Since: today.Start().Add(time.Hour), Organization: o, Meter: evaluations}
	apply := func(batch meter.Batch, open meter.OpenUsage) {
		t.Helper()
		batch.Open = open
		_, err := f.ApplyBatch(t.Context(), batch)
		require.NoError(t, err)
		now := f.instanceNow(w.id).Open
		now.Since = now.Since.UTC()
		require.Equal(t, open, now)
	}
	apply(w.batch(row(o, evaluations, today, 1)), open)
	open.Count, open.Meter = 1, simulations
	still := w.batch()
	still.WatermarkOnly, still.ID.Seq, w.seq = true, still.ID.Seq-1, w.seq-1
	apply(still, open)
	apply(w.batch(row(o, evaluations, today, 1)), meter.OpenUsage{})
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM instances WHERE id = $1 AND open_since IS NULL AND open_organization_id IS NULL AND open_meter IS NULL`, w.id))
}

// A decision to go on without instances names them in the audit trail; no other decision does.
func TestContinuedDecisionNamesTheInstances(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	e := f.beginExport(period, "run")
	without := []billing.AwaitedInstance{
		{
			Instance: uuid.Must(uuid.NewV7()), Host: "api-1", Watermark: period.End().Add(-time.Hour), SeenAt: period.End(),
			Open: 1, OpenSince: period.End().Add(-time.Hour), OpenOrganization: uuid.Must(uuid.NewV7()), OpenMeter: evaluations,
		},
		{Instance: uuid.Must(uuid.NewV7()), Host: "api-2", Watermark: period.End().Add(-time.Minute), SeenAt: period.End()},
	}
	continued := billing.ExportDecision{
		ID: uuid.Must(uuid.NewV7()), Action: billing.ActionContinued, Actor: f.actor("controlling"), Note: "gone", At: time.Now().Add(time.Hour), Without: without,
	}
	for range 2 {
		require.NoError(t, f.RecordDecision(t.Context(), e.ID, continued), "recorded once, however often it is tried")
	}
	trail, err := f.Decisions(t.Context(), e.ID)
	require.NoError(t, err)
	require.Len(t, trail, 2)
	require.Empty(t, trail[0].Without)
	require.Equal(t, billing.ActionContinued, trail[1].Action)
	require.Equal(t, without, trail[1].Without)
}

// A decision and a request are known again by their IDs, whatever has become of their run: neither
// counts for another run of the month.
func TestADecisionIsOfOneRun(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	first, request := f.beginExport(period, "first"), uuid.Must(uuid.NewV7())
	rejected := billing.ExportDecision{
		ID: uuid.Must(uuid.NewV7()), Action: billing.ActionRejected, Actor: f.actor("controlling"), Note: "a price is wrong", At: time.Now(),
	}
	_, err := f.ExportOfDecision(t.Context(), rejected.ID)
	require.ErrorIs(t, err, billing.ErrExportNotFound)
	require.NoError(t, f.RecordDecision(t.Context(), first.ID, rejected))
	require.NoError(t, f.FailExport(t.Context(), first.ID, billing.StageRejected, rejected.Note))

	again := billing.Export{
		ID: uuid.Must(uuid.NewV7()), Period: period, WorkflowID: first.WorkflowID, RunID: "second", Cut: first.Cut,
		RequestedBy: "finance", RequestedAt: time.Now(), RequestID: request,
	}
	second, existing, err := f.BeginExport(t.Context(), again)
	require.NoError(t, err)
	require.False(t, existing)
	require.ErrorIs(t, f.RecordDecision(t.Context(), second.ID, rejected), billing.ErrDecidedBefore)
	require.NoError(t, f.RecordDecision(t.Context(), first.ID, rejected), "what is tried again is no other decision")
	trail, err := f.Decisions(t.Context(), second.ID)
	require.NoError(t, err)
	require.Len(t, trail, 1, "the request alone")
	for id, of := range map[uuid.UUID]billing.Export{rejected.ID: first, request: second} {
		found, err := f.ExportOfDecision(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, of.ID, found.ID)
	}

	// Temporal's state is lost, and the run is started with the same input.
	again.ID, again.RunID = uuid.Must(uuid.NewV7()), "third"
	third, _, err := f.BeginExport(t.Context(), again)
	require.NoError(t, err)
	require.Equal(t, again.ID, third.ID)
}

// What is flushed after a close that went on without an instance is billed once: of the month that
// was closed as a correction, of the next one as its usage. An instance that is held up keeps no
// period from being frozen, and its days that are not rolled up are counted from their batches.
func TestUsageAfterACloseWithoutAnInstanceIsBilledOnce(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	late := f.customer("Late")
	quick, held := f.instance(), f.instance()
	last := period.LastDay()
	quick.flush(row(late, evaluations, last-1, 2), row(late, evaluations, last, 3))
	first := f.closePeriod(period)
	require.Equal(t, "5.00", f.statement(first.ID, late).Due.String())

	held.flush(row(late, evaluations, last, 7), row(late, evaluations, last+1, 11))
	second := f.closePeriod(secondPeriod)
	s := f.statement(second.ID, late)
	require.Equal(t, []string{period.String() + " usage evaluations 7.00"}, corrections(s))
	require.Equal(t, "18.00", s.Due.String())
	third := f.closePeriod(thirdPeriod)
	require.Empty(t, corrections(f.statement(third.ID, late)))
	require.Equal(t, "0.00", f.statement(third.ID, late).Due.String())
}
