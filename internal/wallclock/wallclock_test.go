package wallclock_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/wallclock"
)

func TestNowIsTheTime(t *testing.T) {
	for range 1000 {
		before := time.Now().Round(0)
		now := wallclock.Now()
		after := time.Now().Round(0)
		require.False(t, now.Before(before.Truncate(time.Microsecond)), "%s, %s", before, now)
		require.False(t, now.After(after), "%s, %s", now, after)
		require.Equal(t, time.UTC, now.Location())
	}
}

func TestNowAllocatesNothing(t *testing.T) {
	require.Zero(t, testing.AllocsPerRun(100, func() { wallclock.Now() }))
}
