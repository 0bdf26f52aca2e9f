package web_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
	"github.com/riverline/tollgate/web"
)

func TestExpectedAtEnd(t *testing.T) {
	start := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		used   int64
		passed time.Duration
		want   int64
		ok     bool
	}{
		"nothing used":         {0, 12 * time.Hour, 0, false},
		"the first minutes":    {10, 59 * time.Minute, 0, false},
		"half of a month":      {10, 14 * 24 * time.Hour, 20, true},
		"the last moment":      {10, 28 * 24 * time.Hour, 10, true},
		"more than is counted": {math.MaxInt64 / 2, time.Hour, math.MaxInt64, true},
	} {
		used := gen.MeterUsage{Aggregation: plans.Sum, Current: tt.used, Window: calendar.Window{Start: start, End: start.AddDate(0, 1, 0)}}
		got, ok := web.ExpectedAtEnd(used, start.Add(tt.passed))
		require.Equal(t, tt.ok, ok, name)
		require.Equal(t, tt.want, got, name)
	}
}
