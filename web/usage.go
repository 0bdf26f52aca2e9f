package web

import (
	"math"
	"slices"
	"time"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// usagePage shows where each meter stands.
type usagePage struct {
	Organization accounts.Organization
	Meters       []meterView
}

// Refused are the meters of which nothing is left: requests that use them get a 402.
func (p usagePage) Refused() []meterView { return refused(p.Meters) }

// Live is where the meters are shown anew.
func (p usagePage) Live() string { return "/usage/live" }

// meterView is a meter with what people call it.
type meterView struct {
	gen.MeterUsage
	Name string
	// Most is the limit; 0 where there is none.
	Most int64
	// Expected is what the window comes to, if it goes on at its average pace: of sums alone, and once an hour has passed.
	Expected   int64
	Foreseen   bool
	WindowName string
}

// Limited says that there is a limit, Hard that what exceeds it is refused.
func (m meterView) Limited() bool { return m.Mode != plans.Unlimited }

// Hard says that what exceeds the limit is refused.
func (m meterView) Hard() bool { return m.Mode == plans.Hard }

// Passes says that the limit is passed before the window's end, at the average pace.
func (m meterView) Passes() bool { return m.Foreseen && m.Limited() && m.Expected > m.Most }

// Bytes says that quantities are shown in other units than they are counted in.
func (m meterView) Bytes() bool { return m.Unit == byteUnit }

func refused(meters []meterView) []meterView {
	return slices.DeleteFunc(slices.Clone(meters), func(m meterView) bool { return !m.Hard() || m.Remaining == nil || *m.Remaining > 0 })
}

// meters reads where the visitor's meters stand, and the plans with the meters' names.
func (v *visit) meters() ([]meterView, gen.Catalog, error) {
	var used gen.Usage
	var catalog gen.Catalog
	if err := v.get(&used, "/usage"); err != nil {
		return nil, catalog, err
	}
	if err := v.get(&catalog, v.own("/plans")); err != nil {
		return nil, catalog, err
	}
	return v.meterViews(used, catalog), catalog, nil
}

func (v *visit) meterViews(used gen.Usage, catalog gen.Catalog) []meterView {
	out := make([]meterView, 0, len(used.Meters))
	for _, u := range used.Meters {
		m := meterView{MeterUsage: u, Name: nameOf(catalog.Meters, u.Meter), WindowName: windowName(u.Window)}
		if u.Max != nil {
			m.Most = *u.Max
		}
		m.Expected, m.Foreseen = expectedAtEnd(u, v.now)
		out = append(out, m)
	}
	return out
}

func nameOf(meters []plans.Meter, key string) string {
	for _, m := range meters {
		if m.Key == key && m.Name != "" {
			return m.Name
		}
	}
	return key
}

func windowName(w calendar.Window) string {
	if w.End.Sub(w.Start) > 24*time.Hour {
		return "this month"
	}
	return "today"
}

// foreseeAfter is how much of a window must have passed before its pace says anything.
const foreseeAfter = time.Hour

// expectedAtEnd is what a sum comes to by the end of its window, at its average pace so far.
func expectedAtEnd(u gen.MeterUsage, now time.Time) (int64, bool) {
	passed, whole := now.Sub(u.Window.Start), u.Window.End.Sub(u.Window.Start)
	if u.Aggregation != plans.Sum || u.Current == 0 || passed < foreseeAfter || passed > whole {
		return 0, false
	}
	expected := math.Round(float64(u.Current) / passed.Seconds() * whole.Seconds())
	// What is beyond all that can be counted would be below zero.
	if expected >= math.MaxInt64 {
		return math.MaxInt64, true
	}
	return int64(expected), true
}

func (v *visit) usagePage() (usagePage, error) {
	var p usagePage
	err := v.get(&p.Organization, v.own(""))
	if err == nil {
		p.Meters, _, err = v.meters()
	}
	return p, err
}

func (v *visit) usage() error {
	return showPage(v, "usage", v.usagePage)
}

// usageLive sends the meters each time that they have changed.
func (v *visit) usageLive() error {
	return v.stream("usage", "meters", func() (any, error) { return v.usagePage() })
}

// historyPage shows one meter's past.
type historyPage struct {
	Meter meterView
	// By is day or month.
	By     string
	Points []point
}

// Highest is the highest value.
func (p historyPage) Highest() int64 {
	var highest int64
	for _, one := range p.Points {
		highest = max(highest, one.Value)
	}
	return highest
}

const (
	historyDays   = 31
	historyMonths = 12
)

func (v *visit) history() error {
	meters, _, err := v.meters()
	if err != nil {
		return err
	}
	key := v.r.PathValue("meter")
	i := slices.IndexFunc(meters, func(m meterView) bool { return m.Meter == key })
	p := historyPage{By: "day"}
	to := calendar.DayOf(v.now)
	from := to - historyDays + 1
	if v.r.URL.Query().Get("by") == "month" {
		p.By, from = "month", calendar.DayOf(to.Month().Start().AddDate(0, 1-historyMonths, 0))
	}
	var found gen.UsageHistory
	if err := v.get(&found, "/usage/history", "meter", key, "from", from.String(), "to", to.String(), "granularity", p.By); err != nil {
		return err
	}
	if i >= 0 {
		p.Meter = meters[i]
	}
	p.Points = everyPoint(found, from, to)
	return v.page("history", p)
}

// everyPoint returns a point for each day or month, in which nothing was used, too.
func everyPoint(h gen.UsageHistory, from, to calendar.Day) []point {
	values := map[calendar.Day]int64{}
	for _, p := range h.Points {
		values[p.Start] = p.Value
	}
	var out []point
	for day := from; day <= to; day++ {
		switch {
		case h.Granularity == "day":
			out = append(out, point{day.String(), values[day]})
		case day == day.Month():
			out = append(out, point{day.String()[:len("2006-01")], values[day]})
		}
	}
	return out
}

// Recent are the points, the newest first.
func (p historyPage) Recent() []point {
	out := slices.Clone(p.Points)
	slices.Reverse(out)
	return out
}
