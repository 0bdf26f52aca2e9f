package pgstore_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// TestTwoBatchesUnderOneIdentityAreBothKept holds that a batch which meets another one under its
// identity, as where a copy of a live instance's journal was replayed, is no duplicate: what
// it has beyond that is set aside, once, and counts when somebody decides so.
func TestTwoBatchesUnderOneIdentityAreBothKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := f.instance()
	identified := func(key string, quantity int64) meter.IdentifiedReport {
		return meter.IdentifiedReport{Identity: meter.KeyIdentity(key), Fingerprint: meter.FingerprintOf(key), Quantity: quantity, At: today.Start()}
	}
	half := w.batch(row(o, evaluations, today, 10), row(o, entities, today, 4), row(o, storage, today, 8))
	half.Rows[0].Identified, half.Reports = []meter.IdentifiedReport{identified("a", 1)}, 4
	full := meter.Batch{ID: half.ID, Watermark: half.Watermark.Add(1), Reports: 9, Rows: []meter.Row{
		row(o, evaluations, today, 25), row(o, entities, today, 6), row(o, simulations, today, 3), row(o, storage, today, 8),
	}}
	full.Rows[0].Identified = []meter.IdentifiedReport{identified("a", 1), identified("b", 5)}
	_, err := f.ApplyBatch(t.Context(), half)
	require.NoError(t, err)
	again, err := f.ApplyBatch(t.Context(), half)
	require.NoError(t, err)
	require.True(t, again.Duplicate)
	require.False(t, again.Differs)

	for range 2 {
		met, err := f.ApplyBatch(t.Context(), full)
		require.NoError(t, err)
		require.True(t, met.Duplicate)
		require.True(t, met.Differs)
		require.Empty(t, met.Quarantined, "what is set aside is read by who decides next")
		require.Equal(t, []int64{11, 4, 0, 8}, met.Stored)
	}
	n, err := f.CountBatchConflicts(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	require.EqualValues(t, 4, f.count(`SELECT jsonb_array_length(content) FROM usage_batch_conflicts WHERE reports = 9 AND applied_reports = 4 AND set_aside = 4`))
	found := f.reconcile(today, today)
	require.EqualValues(t, 1, found.BatchConflicts)
	require.EqualValues(t, 4, found.Quarantined)
	require.Empty(t, found.Differences)

	waiting, err := f.Quarantine(t.Context(), meter.QuarantineWaiting, o, uuid.Nil, 10)
	require.NoError(t, err)
	require.Len(t, waiting, 4)
	for _, q := range waiting {
		require.Contains(t, q.Reason, "under this one's identity")
		_, err := f.ApplyQuarantined(t.Context(), q.ID, "ops", "the journal was copied")
		require.NoError(t, err)
	}
	for key, value := range map[string]int64{evaluations: 31, entities: 6, simulations: 3, storage: 8} {
		require.Equal(t, value, f.value(o, key, today), key)
	}
}

// A batch of which nobody had the content any more, and that turns up, is kept whole.
func TestAMissingBatchThatTurnsUpIsKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := f.instance()
	lost := w.batch(row(o, evaluations, today, 10))
	lost.Reports = 1
	require.NoError(t, f.SkipBatches(t.Context(), meter.MissingBatches{Instance: w.id, First: 1, Last: 1}))
	met, err := f.ApplyBatch(t.Context(), lost)
	require.NoError(t, err)
	require.True(t, met.Differs)
	require.Zero(t, f.value(o, evaluations, today))
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM usage_quarantine WHERE value = 10 AND aggregation = $1`, string(plans.Sum)))
}
