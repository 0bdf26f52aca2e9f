package telemetry_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/telemetry"
)

// TestAScrapeEndsWhateverIsAsked scrapes while what is asked makes an instrument, as Temporal's client does
// of a failure that is new to it, and while it doesn't answer. Both are in a later scrape.
func TestAScrapeEndsWhateverIsAsked(t *testing.T) {
	tel, scrape := newTelemetry(t)
	require.NoError(t, telemetry.ObserveParts(tel.Metrics, func(ctx context.Context) map[string]bool {
		counter, err := tel.Metrics.Meter("client").Int64Counter("client_failures")
		if err == nil {
			counter.Add(ctx, 1)
		}
		return map[string]bool{"temporal": false}
	}))
	answer := make(chan struct{})
	require.NoError(t, telemetry.ObserveQuarantine(tel.Metrics, func(ctx context.Context) (int64, error) {
		select {
		case <-answer:
		case <-ctx.Done():
		}
		return 3, nil
	}))
	scraped := make(chan string, 1)
	ended := func() string {
		go func() { scraped <- scrape() }()
		select {
		case text := <-scraped:
			return text
		case <-time.After(30 * time.Second):
			require.Fail(t, "the scrape does not end")
			return ""
		}
	}
	require.NotContains(t, ended(), "tollgate_quarantined_rows 3")
	close(answer)
	require.Eventually(t, func() bool {
		text := ended()
		return containsAll(text, `tollgate_part_healthy{part="temporal"} 0`, "client_failures_total", "tollgate_quarantined_rows 3")
	}, 30*time.Second, 20*time.Millisecond)
}
