package calendar_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/calendar"
)

func TestParsePeriod(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text, first, last string
		days              int
	}{
		{"2024-02", "2024-02-01", "2024-02-29", 29}, // a leap year
		{"2026-02", "2026-02-01", "2026-02-28", 28},
		{"2100-02", "2100-02-01", "2100-02-28", 28}, // divisible by 100: none
		{"2000-02", "2000-02-01", "2000-02-29", 29}, // divisible by 400: one
		{"2026-10", "2026-10-01", "2026-10-31", 31},
		{"2026-12", "2026-12-01", "2026-12-31", 31},
	} {
		t.Run(tc.text, func(t *testing.T) {
			t.Parallel()
			p, err := calendar.ParsePeriod(tc.text)
			require.NoError(t, err)
			require.Equal(t, tc.text, p.String())
			require.Equal(t, tc.first, p.FirstDay().String())
			require.Equal(t, tc.last, p.LastDay().String())
			require.Equal(t, tc.days, int(p.LastDay()-p.FirstDay())+1)
			require.Equal(t, time.Duration(tc.days)*24*time.Hour, p.End().Sub(p.Start()))
		})
	}
	for _, text := range []string{"", "2026", "2026-13", "2026-00", "2026-1", "1999-12", "2026-10-01", "october", "10000-01", " 2026-10"} {
		_, err := calendar.ParsePeriod(text)
		require.ErrorContains(t, err, "YYYY-MM", text)
	}
}

// A period is UTC whatever the zone of the time it is taken from, and no clock
// change in that zone makes it longer or shorter.
func TestPeriodOfKnowsNoZones(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	require.Equal(t, "2026-09", calendar.PeriodOf(time.Date(2026, 10, 1, 1, 59, 59, 0, berlin)).String())
	require.Equal(t, "2026-10", calendar.PeriodOf(time.Date(2026, 10, 1, 2, 0, 0, 0, berlin)).String())
	march, err := calendar.ParsePeriod("2026-03")
	require.NoError(t, err)
	require.Equal(t, 31*24*time.Hour, march.End().Sub(march.Start()))
}

func TestPeriodsFollowEachOther(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(946684800, 253402300799).Draw(t, "seconds"), 0)
		p := calendar.PeriodOf(at)
		require.False(t, at.Before(p.Start()))
		require.True(t, at.Before(p.End()))
		require.Equal(t, p, calendar.PeriodOf(p.End()).Previous())
		require.Equal(t, p.LastDay()+1, calendar.DayOf(p.End()))
		parsed, err := calendar.ParsePeriod(p.String())
		require.NoError(t, err)
		require.Equal(t, p, parsed)
	})
}

func TestPeriodAsJSON(t *testing.T) {
	t.Parallel()
	var p calendar.Period
	require.True(t, p.IsZero())
	require.NoError(t, json.Unmarshal([]byte(`"2026-10"`), &p))
	require.False(t, p.IsZero())
	text, err := json.Marshal(p)
	require.NoError(t, err)
	require.JSONEq(t, `"2026-10"`, string(text))
	require.ErrorContains(t, json.Unmarshal([]byte(`"2026"`), &p), `period "2026"`)
}
