package main

import (
	"strconv"
	"strings"
)

// goal is a bound that rows of the table are held to.
type goal struct {
	// name is what rows know it by.
	name string
	// unit is that of what is bounded: "ratio", or the unit of the row's figure.
	unit string
	// most and least bound it. Zero: not on that side.
	most, least float64
	// source is where the bound is from.
	source string
}

// goals are all that is wanted of speed and economy, in one place.
var goals = []goal{
	{name: "a limiter", unit: "ratio", most: 1, source: "issue 13, section 2: ahead of go-limiter and CounterVec"},
	{name: "a map, small", unit: "ratio", most: 1.2, source: "issue 13, section 2: a sharded map at 10 thousand"},
	{name: "a map, large", unit: "ratio", most: 0.8, source: "issue 13, section 2: a sharded map at 1 million"},
	{name: "the journal", unit: "ratio", most: 2.5, source: "issue 13, section 2: journal process beside the sharded map"},
	{name: "two cores", unit: "ratio", least: 1.7, source: "issue 13, section 2: 1 to 2 cores"},
	{name: "no allocation", unit: "allocs/op", most: 0.01, source: "issue 13, section 2; what the measurement itself allocates is spread over a million operations"},
	{name: "an idle organization", unit: "B/organization", most: 400, source: "issue 13, section 1.4"},
	{name: "capacity", unit: "ratio", least: 0.9, source: "issue 13, section 2: POST /usage beside a bare handler"},
	{name: "p99", unit: "ratio", most: 1.3, source: "issue 13, section 2: at 70 % of the capacity"},
	{name: "items", unit: "items/s", least: 500_000, source: "issue 13, section 2: POST /usage/batch of 1,000"},
	{name: "keyed items", unit: "ratio", least: 0.6, source: "issue 13, section 2: beside what Postgres alone inserts"},
	{name: "the watermark", unit: "intervals-lag", most: 2, source: "issue 13, section 2: without falling behind"},
	{name: "writers of the same", unit: "ratio", least: 1, source: "issue 13, section 1.2: beside one writer of its own"},
	{name: "the slowest batch", unit: "slowest-ns", most: 500e6, source: "issue 13, section 1.2"},
	{name: "asks", unit: "asks/event", most: 0.1, source: "issue 13, section 1.1: one instance's window, others live"},
	{name: "waits", unit: "waits/event", most: 0.01, source: "issue 13, section 1.1: until 95 % are used"},
	{name: "a fold", unit: "ratio", most: 5, source: "issue 13, section 1.6: rollup and freeze beside COPY"},
	{name: "Temporal", unit: "actions/h", most: 130, source: "docs/scaling.md: an instance"},
}

// goalNamed returns nil for the empty name.
func goalNamed(name string) *goal {
	if name == "" {
		return nil
	}
	for i := range goals {
		if goals[i].name == name {
			return &goals[i]
		}
	}
	panic("no goal is named " + name)
}

// bound is what a value must keep to, in words.
func (g *goal) bound() string {
	side, bound := "at most ", g.most
	if g.most == 0 {
		side, bound = "at least ", g.least
	}
	if g.unit == "ratio" {
		return side + strconv.FormatFloat(bound, 'f', -1, 64)
	}
	text := quantity(bound, g.unit)
	number, unit, _ := strings.Cut(text, " ")
	if strings.Contains(number, ".") {
		number = strings.TrimRight(strings.TrimRight(number, "0"), ".")
	}
	return side + number + " " + unit
}

// verdict says whether a value keeps to the bound, or how many times it is away from it.
func (g *goal) verdict(value float64) string {
	away := value / g.most
	if g.most == 0 {
		away = g.least / value
	}
	if away <= 1 {
		return "met"
	}
	return "**not met**, " + short(away) + "×"
}
