package demo_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/demo"
	"github.com/riverline/tollgate/plans"
)

// Past usage begins two months before the current one, is the same each time, keeps Free
// within its limits, and has less on weekends.
func TestPastUsageIsPlausible(t *testing.T) {
	t.Parallel()
	for last, want := range map[string][]string{
		"2026-11-27": {"2026-09-01", "2026-10-01", "2026-11-01"},
		"2026-11-30": {"2026-10-01", "2026-11-01"},
		"2026-12-01": {"2026-10-01", "2026-11-01", "2026-12-01"},
		"2027-01-31": {"2026-12-01", "2027-01-01"},
	} {
		until, err := calendar.ParseDay(last)
		require.NoError(t, err)
		id := uuid.UUID{15: 1}
		for _, p := range plans.Default().Plans {
			months := demo.PastUsage(id, p.Key, plans.Default(), until)
			require.Equal(t, months, demo.PastUsage(id, p.Key, plans.Default(), until))
			var got []string
			for _, month := range want {
				first, err := calendar.ParseDay(month)
				require.NoError(t, err)
				require.NotEmpty(t, months[first], "%s: %s", last, month)
				got = append(got, month)
				for _, row := range months[first] {
					require.LessOrEqual(t, row.Day, until)
					require.Positive(t, row.Value)
					if limit := p.Entitlement(row.Meter); limit.Mode != plans.Unlimited {
						require.LessOrEqual(t, row.Value, limit.Max, "%s %s", p.Key, row.Meter)
					}
				}
			}
			require.Len(t, months, len(got))
		}
	}
	require.Empty(t, demo.PastUsage(uuid.UUID{}, "team", plans.Default(), 20_000), "a plan of one's own has no shape")
}
