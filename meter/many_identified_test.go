package meter_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter/metertest"
)

// TestRepeatedReportsCostWhatFreshOnesDo has an instance report under identities that another one has
// flushed meanwhile, as a client does that sends all of an hour again elsewhere: the flush that finds
// out takes no longer with their number than the one that counted them.
func TestRepeatedReportsCostWhatFreshOnesDo(t *testing.T) {
	const reports = 70_000
	store := metertest.NewStore()
	id := store.Add("enterprise")
	var took []time.Duration
	for range 2 {
		r := reporterOf(t, store, id, reports)
		for n := range reports {
			_, err := r.report(t, n, 1)
			require.NoError(t, err)
		}
		began := time.Now()
		_, err := r.flusher.Flush(t.Context())
		require.NoError(t, err)
		took = append(took, time.Since(began))
		require.EqualValues(t, reports, r.org.Usage(0, noon).Current, "each counts once")
	}
	t.Log(took)
	// It took hundreds of times as long where each looked through the others; a busy machine makes a few of it.
	require.Less(t, took[1], 20*took[0])
}
