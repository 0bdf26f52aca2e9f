package meter_test

import (
	"encoding/binary"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

// reporter reports under identities of its own numbers.
type reporter struct {
	store   *metertest.Store
	meter   *meter.Meter
	flusher *meter.Flusher
	org     *meter.Organization
	lines   lineCount
}

// lineCount counts the lines of a log.
type lineCount struct{ atomic.Int64 }

func (c *lineCount) Write(line []byte) (int, error) {
	c.Add(1)
	return len(line), nil
}

func newReporter(t *testing.T, plan string, most int) *reporter {
	t.Helper()
	store := metertest.NewStore()
	return reporterOf(t, store, store.Add(plan), most)
}

// reporterOf is another instance of the same organization.
func reporterOf(t *testing.T, store *metertest.Store, id uuid.UUID, most int) *reporter {
	t.Helper()
	r := &reporter{store: store}
	now := (&clock{now: noon}).Now
	r.meter = meter.New(meter.Config{
		Catalog: plans.Default(), Store: r.store, Now: now, MaxIdentified: most, Logger: slog.New(slog.NewTextHandler(&r.lines, nil)),
	})
	t.Cleanup(r.meter.Close)
	r.flusher = meter.NewFlusher(meter.FlusherConfig{
		Meter: r.meter, Store: r.store, Instance: uuid.New(), Now: now, Logger: slog.New(slog.NewTextHandler(&r.lines, nil)),
	})
	var err error
	r.org, err = r.meter.Organization(t.Context(), id, noon)
	require.NoError(t, err)
	return r
}

func (r *reporter) report(t *testing.T, n int, quantity int64) (meter.Outcome, error) {
	t.Helper()
	report := meter.Report{Quantity: quantity}
	binary.BigEndian.PutUint64(report.Identity[8:], uint64(n)+1)
	report.Identity[0] = byte(n)
	return r.org.ReportKnown(t.Context(), report, nil)
}

// TestWhatWaitsForTheStoreIsBounded has the store away while reports with an identity come: as many as may
// wait do, and what is refused is counted once it is sent again.
func TestWhatWaitsForTheStoreIsBounded(t *testing.T) {
	const most = 20
	r := newReporter(t, "enterprise", most)
	r.store.Set(func(s *metertest.Store) { s.Away = true })
	for n := range 2 * most {
		out, err := r.report(t, n, 1)
		if n < most {
			require.NoError(t, err)
			require.True(t, out.Decision.Allowed)
			continue
		}
		require.ErrorIs(t, err, meter.ErrTooManyIdentified)
		require.ErrorIs(t, err, meter.ErrUnavailable)
	}
	require.EqualValues(t, most, r.meter.Identified())
	out, err := r.report(t, 3, 1)
	require.NoError(t, err, "what is known is answered")
	require.True(t, out.Duplicate)
	d, _ := r.org.Consume(0, 5, noon)
	require.True(t, d.Allowed, "other usage takes no more room")
	_, err = r.flusher.Flush(t.Context())
	require.Error(t, err)
	_, err = r.report(t, most, 1)
	require.ErrorIs(t, err, meter.ErrTooManyIdentified, "what is on its way waits, too")

	r.store.Set(func(s *metertest.Store) { s.Away = false })
	_, err = r.flusher.Flush(t.Context())
	require.NoError(t, err)
	require.Zero(t, r.meter.Identified())
	for n := most; n < 2*most; n++ {
		_, err := r.report(t, n, 1)
		require.NoError(t, err)
	}
	_, err = r.flusher.Flush(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2*most+5, r.org.Usage(0, noon).Current)
}

// TestRefusedReportsTakeNoRoom refuses reports by their limit, and by what they reuse.
func TestRefusedReportsTakeNoRoom(t *testing.T) {
	r := newReporter(t, "free", 3)
	for n := range 10 {
		out, err := r.report(t, n, 2_000)
		require.NoError(t, err)
		require.False(t, out.Decision.Allowed)
	}
	require.Zero(t, r.meter.Identified())
	for n := range 3 {
		_, err := r.report(t, n, 1)
		require.NoError(t, err)
	}
	for range 5 {
		again := meter.Report{Quantity: 1, Fingerprint: meter.Fingerprint{1}}
		binary.BigEndian.PutUint64(again.Identity[8:], 1)
		_, err := r.org.ReportKnown(t.Context(), again, nil)
		require.ErrorIs(t, err, meter.ErrIdentityReused)
	}
	require.EqualValues(t, 3, r.meter.Identified())
}

// TestWhatWaitsIsBoundedUnderARace has clients race for the last places while flushes make room.
func TestWhatWaitsIsBoundedUnderARace(t *testing.T) {
	const most, clients, each = 16, 8, 200
	r := newReporter(t, "enterprise", most)
	var running sync.WaitGroup
	var refused atomic.Int64
	for client := range clients {
		running.Go(func() {
			for n := 0; n < each; {
				if _, err := r.report(t, client*each+n, 1); err == nil {
					n++
					continue
				}
				refused.Add(1)
				runtime.Gosched()
			}
		})
	}
	flushes := int64(0)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			if r.meter.Identified() > most+clients {
				t.Errorf("%d wait", r.meter.Identified())
			}
			if _, err := r.flusher.Flush(t.Context()); err != nil {
				t.Error(err)
			}
			flushes++
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	running.Wait()
	close(stop)
	<-stopped
	_, err := r.flusher.Flush(t.Context())
	require.NoError(t, err)
	require.Zero(t, r.meter.Identified())
	require.EqualValues(t, clients*each, r.org.Usage(0, noon).Current)
	require.LessOrEqual(t, r.lines.Load(), flushes+1, "it is said once between two flushes")
}

// TestIdentifiedReportsAreSmall holds what the settings say of a report that waits.
func TestIdentifiedReportsAreSmall(t *testing.T) {
	const reports = 50_000
	r := newReporter(t, "enterprise", reports)
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	for n := range reports {
		_, err := r.report(t, n, 1)
		require.NoError(t, err)
	}
	bytes := (heap() - before) / reports
	t.Logf("%d bytes a report", bytes)
	require.Less(t, bytes, int64(400))
	runtime.KeepAlive(r)
}
