package gate_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/gate"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
)

// TestAnUploadThatTricklesCountsOnce holds that an upload which brings a byte from time to time, from
// the last minutes of a day on, holds up nobody's day: its usage belongs to a later day, from flush
// to flush, is never released while its handler runs, and counts once when it is answered 2xx.
func TestAnUploadThatTricklesCountsOnce(t *testing.T) {
	r := newProxyRig(t, "hard", swallow, func(c *gate.ProxyConfig) { c.BodyTimeout = 2 * time.Second })
	store := metertest.NewStore()
	flusher := meter.NewFlusher(meter.FlusherConfig{
		Meter: r.meter, Store: store, Instance: uuid.New(), Now: r.Now, Logger: slog.New(slog.DiscardHandler),
	})
	flush := func() meter.FlushSummary {
		summary, err := flusher.Flush(t.Context())
		require.NoError(t, err)
		return summary
	}
	midnight := calendar.DayOf(noon).End()
	r.advance(midnight.Sub(noon) - time.Minute)
	const bytes = 12
	conn := r.upload(bytes, "")
	r.requireUsage(0, 1)
	r.advance(2 * time.Minute)
	require.Equal(t, midnight.Add(-time.Microsecond), flush().Watermark, "it may end soon")
	for n := range bytes - 1 {
		_, err := conn.Write([]byte("x"))
		require.NoError(t, err)
		// A byte each 8 hours, by the clock that counts: over several days.
		r.advance(8 * time.Hour)
		require.Equal(t, r.Now(), flush().Watermark, "byte %d", n)
		r.requireUsage(0, 1)
		require.Equal(t, 1, r.meter.Open().Count)
	}
	require.EqualValues(t, 4, r.meter.Totals().Redated, "once each day")
	require.Empty(t, store.Records)
	_, err := conn.Write([]byte("x"))
	require.NoError(t, err)
	require.Contains(t, answerOf(t, conn), "HTTP/1.1 200 ")
	r.requireUsage(1, 0)
	flush()
	flush()
	require.Zero(t, r.meter.Open().Count)
	require.Len(t, store.Records, 1, "on one day")
	id := r.organization.ID()
	require.EqualValues(t, 1, store.Value(id, "evaluations", calendar.DayOf(r.Now())))
}
