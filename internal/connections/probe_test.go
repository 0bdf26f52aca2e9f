package connections

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAProbeMeasuresTheWait holds that a measurement ends, and that a closed probe measures nothing.
func TestAProbeMeasuresTheWait(t *testing.T) {
	t.Parallel()
	p, err := OpenProbe()
	require.NoError(t, err)
	for range 100 {
		delay := p.Delay()
		require.Positive(t, delay)
		require.Less(t, delay, time.Minute)
	}
	p.Close()
	require.Zero(t, p.Delay())
}
