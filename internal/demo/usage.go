package demo

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// untilVariable names the last day of the past usage that the demo organizations were
// made with. It never changes, so that a later run adds nothing.
const untilVariable = "TOLLGATE_DEMO_USAGE_UNTIL"

// finishedMonths is how many months come before the current one: the last one, which can
// be closed, and one for it to differ from.
const finishedMonths = 2

// shape is what an organization uses of a meter: on a working day, or for a level on any,
// in the last finished month.
type shape struct {
	base int64
	// weekend is what a Saturday or a Sunday has of it, in percent.
	weekend int64
	// growth is what a month has more than the one before, in percent of base.
	growth int64
}

// shapes are the demo's, by plan and meter: Free stays within its limits, Pro goes beyond
// its included units and doubles in the last month, and Enterprise beyond its minimum.
var shapes = map[string]map[string]shape{
	"free": {
		"evaluations": {600, 40, 10}, "flow_executions": {45, 30, 10}, "simulations": {12, 20, 10},
		"entity_instances": {60, 80, 5}, "storage_bytes": {400 << 20, 100, 20},
	},
	"pro": {
		"evaluations": {9_000, 35, 50}, "flow_executions": {650, 30, 50}, "simulations": {260, 25, 50},
		"entity_instances": {420, 60, 45}, "storage_bytes": {22 << 30, 100, 50},
	},
	"enterprise": {
		"evaluations": {120_000, 45, 8}, "flow_executions": {9_500, 40, 8}, "simulations": {2_100, 30, 8},
		"entity_instances": {2_600, 70, 4}, "storage_bytes": {410 << 30, 100, 10},
	},
}

// usedOn is what a shape has on a day, months after the last finished one (-1 before).
// It is the same each time: a few percent up or down by plan, meter and day.
func (s shape) usedOn(plan, meterKey string, day calendar.Day, months int64, level bool) int64 {
	value := s.base * (100 + s.growth*months) / 100
	at := day.Start()
	if weekday := at.Weekday(); weekday == time.Saturday || weekday == time.Sunday {
		value = value * s.weekend / 100
	}
	if level {
		// A level grows through the month, towards that of the next one.
		return value + s.base*s.growth/100*int64(at.Day())/31
	}
	digest := fnv.New32a()
	_, _ = fmt.Fprintf(digest, "%s %s %s", plan, meterKey, day)
	return value * (93 + int64(digest.Sum32()%15)) / 100
}

// beginning is the first day of the demo's past usage.
func beginning(until calendar.Day) calendar.Day {
	// The day after the last one is in the current month.
	return calendar.DayOf((until + 1).Month().Start().AddDate(0, -finishedMonths, 0))
}

// PastUsage returns what an organization has used from the beginning to a day, by month.
func PastUsage(organization uuid.UUID, plan string, catalog *plans.Catalog, until calendar.Day) map[calendar.Day][]meter.Row {
	rows := map[calendar.Day][]meter.Row{}
	last := calendar.DayOf((until + 1).Month().Start().AddDate(0, -1, 0)).Start()
	for day := beginning(until); day <= until; day++ {
		at := day.Start()
		months := int64((at.Year()-last.Year())*12 + int(at.Month()) - int(last.Month()))
		for _, m := range catalog.Meters {
			s, ok := shapes[plan][m.Key]
			if !ok {
				continue
			}
			rows[day.Month()] = append(rows[day.Month()], meter.Row{
				Organization: organization, Meter: m.Key, Aggregation: m.Aggregation, Day: day,
				Value: s.usedOn(plan, m.Key, day, months, m.Aggregation == plans.Last),
			})
		}
	}
	return rows
}

// Importer writes past usage.
type Importer interface {
	EnsurePartitions(ctx context.Context, day calendar.Day, monthsAhead int) error
	ImportUsage(ctx context.Context, chunk meter.BatchID, host string, rows []meter.Row) (written bool, err error)
}

// SeedUsage writes what the demo organizations have used before they were made, a chunk a
// month. It is written once, however often this is called. An installation whose
// organizations were made without it stays as it is.
func SeedUsage(ctx context.Context, store Importer, catalog *plans.Catalog, organizations []Organization, env Env) error {
	until, ok := usageUntil(env)
	if !ok {
		return nil
	}
	months := map[calendar.Day][]meter.Row{}
	identity := sha256.New()
	for _, o := range organizations {
		id, err := uuid.Parse(env[o.OrgVariable()])
		if err != nil {
			return fmt.Errorf("%s is %q, which is no ID", o.OrgVariable(), env[o.OrgVariable()])
		}
		if shapes[o.Plan] == nil {
			continue
		}
		_, _ = identity.Write(id[:])
		for month, rows := range PastUsage(id, o.Plan, catalog, until) {
			months[month] = append(months[month], rows...)
		}
	}
	source := uuid.UUID(identity.Sum(nil)[:16])
	source[6], source[8] = source[6]&0x0f|0x80, source[8]&0x3f|0x80
	for n, month := range slices.Sorted(maps.Keys(months)) {
		if err := store.EnsurePartitions(ctx, month, 0); err != nil {
			return err
		}
		if _, err := store.ImportUsage(ctx, meter.BatchID{Instance: source, Seq: int64(n + 1)}, "past usage of the demo", months[month]); err != nil {
			return err
		}
	}
	return nil
}

func usageUntil(env Env) (calendar.Day, bool) {
	until, err := calendar.ParseDay(env[untilVariable])
	return until, err == nil
}
