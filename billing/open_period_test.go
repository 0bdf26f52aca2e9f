package billing_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// TestOpenPeriod folds daily records over a change of plan: sums and peaks by the plan of a day's last report, levels over time.
func TestOpenPeriod(t *testing.T) {
	t.Parallel()
	period, err := calendar.ParsePeriod("2026-11")
	require.NoError(t, err)
	at := func(day, hour int) time.Time {
		return period.Start().AddDate(0, 0, day-1).Add(time.Duration(hour) * time.Hour)
	}
	record := func(meter string, day, hour int, value int64) billing.UsageRecord {
		return billing.UsageRecord{Meter: meter, Day: calendar.DayOf(at(day, 0)), Value: value, LastAt: at(day, hour)}
	}
	sum, peak, level := plans.Meter{Key: "sum", Aggregation: plans.Sum}, plans.Meter{Key: "peak", Aggregation: plans.Max}, plans.Meter{Key: "level", Aggregation: plans.Last}
	open := billing.OpenPeriod{
		Period: period, Cut: at(11, 0), Meters: []plans.Meter{sum, peak, level},
		Terms: []billing.Segment{
			{Start: at(2, 0), End: at(6, 12), Plan: plans.Plan{Key: "free", Version: 1}},
			{Start: at(6, 12), End: at(11, 0), Plan: plans.Plan{Key: "pro", Version: 1}},
		},
		Opening: []billing.UsageRecord{record("level", -3, 0, 4)},
		Records: []billing.UsageRecord{
			record("sum", 1, 5, 1), record("sum", 3, 5, 10), record("sum", 6, 5, 20), record("sum", 6, 13, 40), record("sum", 9, 0, 80),
			record("peak", 3, 1, 7), record("peak", 4, 1, 5), record("peak", 9, 1, 6), record("level", 8, 12, 10),
		},
	}
	p := open.OrganizationPeriod()
	require.Len(t, p.Segments, 3, "before the contract there is none")
	used := func(p billing.OrganizationPeriod) map[string][]string {
		out := map[string][]string{}
		for _, s := range p.Segments {
			for _, u := range s.Usage {
				text := []string{strconv.FormatInt(u.Value, 10)}
				if !u.UnitSeconds.IsZero() {
					text = append(text, u.UnitSeconds.Div(decimal.NewFromInt(24*60*60)).String())
				}
				out[u.Meter] = append(out[u.Meter], text...)
			}
		}
		return out
	}
	require.Equal(t, map[string][]string{
		"sum": {"1", "30", "120"}, "peak": {"7", "6"}, "level": {"4", "4", "4", "18", "10", "33"},
	}, used(p))
	require.EqualValues(t, 151, p.Used(sum))
	require.EqualValues(t, 7, p.Used(peak))
	require.EqualValues(t, 10, p.Used(level))

	// 9 of the contract's days have passed, 20 are left: 150 × 20/9 are to come.
	expected := p.Expected()
	require.Equal(t, period.End(), expected.Segments[2].End)
	require.EqualValues(t, 151+333, expected.Used(sum))
	require.EqualValues(t, 7, expected.Used(peak))
	require.Equal(t, []string{"4", "4", "4", "18", "10", "233"}, used(expected)["level"])
	require.EqualValues(t, 151, p.Used(sum), "what it was made from stays")

	on := p.On(plans.Plan{Key: "pro", Version: 2})
	require.Equal(t, []string{"", "pro", "pro"}, []string{on.Segments[0].Plan.Key, on.Segments[1].Plan.Key, on.Segments[2].Plan.Key})
	require.Equal(t, "free", p.Segments[1].Plan.Key)

	open.Terms = nil
	require.EqualValues(t, 151, open.OrganizationPeriod().Expected().Used(sum), "without a contract nothing grows")
}
