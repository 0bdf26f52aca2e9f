package meter_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

// TestRepeatedReportsCostWhatFreshOnesDo has an instance report under identities that another one has
// flushed meanwhile, as a client does that sends all of an hour again elsewhere: the flush that finds
// out takes no longer with their number than the one that counted them.
func TestRepeatedReportsCostWhatFreshOnesDo(t *testing.T) {
	const reports = 100_000
	store := metertest.NewStore()
	id := store.Add("enterprise")
	var took []time.Duration
	for range 2 {
		instance := uuid.New()
		m := meter.New(meter.Config{Catalog: plans.Default(), Store: store, Now: (&clock{now: noon}).Now})
		t.Cleanup(m.Close)
		f := meter.NewFlusher(meter.FlusherConfig{Meter: m, Store: store, Instance: instance, Now: (&clock{now: noon}).Now})
		o, err := m.Organization(t.Context(), id, noon)
		require.NoError(t, err)
		for n := range reports {
			report := meter.Report{Quantity: 1, At: noon}
			binary.BigEndian.PutUint64(report.Identity[:], uint64(n)+1)
			_, err := o.ReportKnown(t.Context(), report, nil)
			require.NoError(t, err)
		}
		began := time.Now()
		_, err = f.Flush(t.Context())
		require.NoError(t, err)
		took = append(took, time.Since(began))
		require.EqualValues(t, reports, o.Usage(0, noon).Current, "each counts once")
	}
	t.Log(took)
	require.Less(t, took[1], 5*took[0])
}
