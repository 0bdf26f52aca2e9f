package web

import (
	"github.com/google/uuid"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// stylePage shows the design system: every component, with made-up data.
type stylePage struct {
	Meters []meterView
	Points []point
	ID     uuid.UUID
}

func (v *visit) style() error {
	const most = 1000
	window := calendar.WindowDay.At(v.now)
	meter := func(name string, mode plans.Mode, current, held, expected int64) meterView {
		left := max(0, most-current-held)
		return meterView{Name: name, Most: most, Expected: expected, Foreseen: expected > 0, WindowName: "today", MeterUsage: gen.MeterUsage{
			Meter: "evaluations", Unit: "evaluation", Aggregation: plans.Sum, Mode: mode, Current: current, Held: held, Window: window, Remaining: &left,
		}}
	}
	p := stylePage{Meters: []meterView{
		meter("Low", plans.Hard, 240, 0, 600), meter("Held", plans.Hard, 520, 200, 900), meter("High", plans.Soft, 870, 0, 1400), meter("Full", plans.Hard, most, 0, 0),
		meter("Unlimited", plans.Unlimited, 123456, 0, 0),
	}}
	for day := range int64(14) {
		p.Points = append(p.Points, point{(calendar.DayOf(v.now) - calendar.Day(13-day)).String(), (day*day*37 + 220) % 900})
	}
	return v.page("style", p)
}
