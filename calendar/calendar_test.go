package calendar_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/calendar"
)

func TestWindows(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339Nano, s)
		require.NoError(t, err)
		return v
	}
	for _, tc := range []struct {
		kind          calendar.WindowKind
		t, start, end string
	}{
		{calendar.WindowDay, "2026-11-24T00:00:00Z", "2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z"},
		{calendar.WindowDay, "2026-11-24T23:59:59.999999999Z", "2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z"},
		{calendar.WindowDay, "2026-11-24T01:00:00+02:00", "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z"},
		{calendar.WindowDay, "1969-12-31T12:00:00Z", "1969-12-31T00:00:00Z", "1970-01-01T00:00:00Z"},
		{calendar.WindowMonth, "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"},
		{calendar.WindowMonth, "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"},
	} {
		w := tc.kind.At(at(tc.t))
		require.Equal(t, calendar.Window{Start: at(tc.start), End: at(tc.end)}, w, tc.t)
		require.True(t, w.Contains(at(tc.t)))
		require.False(t, w.Contains(w.End))
	}
}

func TestDays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		moment := time.Unix(rapid.Int64Range(-1e10, 1e11).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanos"))
		day := calendar.DayOf(moment)
		require.False(t, moment.Before(day.Start()))
		require.True(t, moment.Before(day.End()))
		if y := moment.UTC().Year(); y >= 0 && y <= 9999 {
			again, err := calendar.ParseDay(day.String())
			require.NoError(t, err)
			require.Equal(t, day, again)
		}
	})
	for _, bad := range []string{"", "2026-13-01", "2026-02-30", "24.11.2026", "2026-11-24T00:00:00Z"} {
		_, err := calendar.ParseDay(bad)
		require.ErrorContains(t, err, "YYYY-MM-DD", bad)
	}
}
