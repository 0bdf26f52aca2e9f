package starter

import (
	"reflect"
	"runtime"
	"slices"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
)

// isAsWanted reports whether a schedule that the server describes does what is wanted. Notes and
// pauses don't count.
func isAsWanted(has client.Schedule, want client.ScheduleOptions, codecs []converter.PayloadCodec) bool {
	if has.Spec == nil || has.Policy == nil {
		return false
	}
	return isSpecAsWanted(*has.Spec, want.Spec) &&
		has.Policy.Overlap == want.Overlap && has.Policy.CatchupWindow == want.CatchupWindow && has.Policy.PauseOnFailure == want.PauseOnFailure &&
		isActionAsWanted(has.Action, want.Action, codecs)
}

func isSpecAsWanted(has, want client.ScheduleSpec) bool {
	if len(has.Intervals)+len(has.Skip)+len(has.CronExpressions) > 0 || has.Jitter != want.Jitter || !has.StartAt.IsZero() || !has.EndAt.IsZero() {
		return false
	}
	return zoneOf(has) == zoneOf(want) && slices.EqualFunc(has.Calendars, want.Calendars, func(a, b client.ScheduleCalendarSpec) bool {
		return reflect.DeepEqual(filledIn(a), filledIn(b))
	})
}

// zoneOf is UTC where nothing is said.
func zoneOf(spec client.ScheduleSpec) string {
	if spec.TimeZoneName == "" {
		return "UTC"
	}
	return spec.TimeZoneName
}

// filledIn is a calendar with the server's defaults, each range as start, end and step.
func filledIn(c client.ScheduleCalendarSpec) client.ScheduleCalendarSpec {
	all := func(start, end int) []client.ScheduleRange {
		return []client.ScheduleRange{{Start: start, End: end, Step: 1}}
	}
	fill := func(ranges *[]client.ScheduleRange, otherwise []client.ScheduleRange) {
		*ranges = slices.Clone(*ranges)
		if len(*ranges) == 0 {
			*ranges = otherwise
		}
		for i := range *ranges {
			r := &(*ranges)[i]
			r.End, r.Step = max(r.End, r.Start), max(r.Step, 1)
		}
	}
	fill(&c.Second, all(0, 0))
	fill(&c.Minute, all(0, 0))
	fill(&c.Hour, all(0, 0))
	fill(&c.DayOfMonth, all(1, 31))
	fill(&c.Month, all(1, 12))
	fill(&c.DayOfWeek, all(0, 6))
	fill(&c.Year, nil)
	return c
}

func isActionAsWanted(has, want client.ScheduleAction, codecs []converter.PayloadCodec) bool {
	isSame := func(a, b any) bool { return slices.Equal(dataOf(a, codecs), dataOf(b, codecs)) }
	a, ok := has.(*client.ScheduleWorkflowAction)
	b, okWanted := want.(*client.ScheduleWorkflowAction)
	if !ok || !okWanted {
		return false
	}
	return strings.HasPrefix(a.ID, b.ID) && nameOf(a.Workflow) == nameOf(b.Workflow) && a.TaskQueue == b.TaskQueue &&
		slices.EqualFunc(a.Args, b.Args, isSame) && isSame(a.StaticSummary, b.StaticSummary)
}

// nameOf is the type of a workflow that is given as its name or its function.
func nameOf(workflow any) string {
	if name, ok := workflow.(string); ok {
		return name
	}
	full := runtime.FuncForPC(reflect.ValueOf(workflow).Pointer()).Name()
	return full[strings.LastIndex(full, ".")+1:]
}

// dataOf returns what a value is in a payload, which it may be already, as the server keeps it. What
// can't be read is as nothing else.
func dataOf(value any, codecs []converter.PayloadCodec) []byte {
	payload, ok := value.(*commonpb.Payload)
	for _, codec := range codecs {
		if !ok {
			break
		}
		decoded, err := codec.Decode([]*commonpb.Payload{payload})
		if err != nil {
			return nil
		}
		payload = decoded[0]
	}
	if !ok {
		var err error
		if payload, err = converter.GetDefaultDataConverter().ToPayload(value); err != nil {
			return nil
		}
	}
	return payload.GetData()
}
