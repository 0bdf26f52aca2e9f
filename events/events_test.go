package events_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/plans"
)

var now = time.Date(2026, 10, 17, 12, 0, 0, 123456789, time.UTC)

func some() events.Event {
	return events.Event{
		ID: uuid.Max, Key: "export.issued/2026-10", Kind: events.ExportIssued, OccurredAt: now,
		Data: json.RawMessage(`{ "period": "2026-10" }`),
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	require.NoError(t, some().Validate())
	for _, tc := range []struct {
		field string
		spoil func(*events.Event)
	}{
		{"id", func(e *events.Event) { e.ID = uuid.Nil }},
		{"key", func(e *events.Event) { e.Key = "" }},
		{"key", func(e *events.Event) { e.Key = "a b" }},
		{"key", func(e *events.Event) { e.Key = "é" }},
		{"key", func(e *events.Event) { e.Key = strings.Repeat("k", events.MaxKey+1) }},
		{"kind", func(e *events.Event) { e.Kind = "export.lost" }},
		{"occurred_at", func(e *events.Event) { e.OccurredAt = time.Time{} }},
		{"data", func(e *events.Event) { e.Data = nil }},
		{"data", func(e *events.Event) { e.Data = json.RawMessage(`[1]`) }},
		{"data", func(e *events.Event) { e.Data = json.RawMessage(`{"a":`) }},
		{"data", func(e *events.Event) { e.Data = json.RawMessage(`{"a":"` + strings.Repeat("x", events.MaxData) + `"}`) }},
	} {
		e := some()
		tc.spoil(&e)
		var broken *fault.FieldError
		require.ErrorAs(t, e.Validate(), &broken)
		require.Equal(t, tc.field, broken.Field)
	}
}

func TestDocument(t *testing.T) {
	t.Parallel()
	document, err := some().Document()
	require.NoError(t, err)
	require.Equal(t, `{"type":"export.issued","timestamp":"2026-10-17T12:00:00.123456Z","data":{"period":"2026-10"}}`, string(document))
	broken := some()
	broken.Data = json.RawMessage(`{`)
	_, err = broken.Document()
	require.ErrorContains(t, err, "write the document")
}

// What a store or a zone does to an event must not change what is signed.
func TestDocumentIsTheSameAfterStoring(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		data, err := json.Marshal(rapid.MapOf(rapid.String(), rapid.Int64()).Draw(t, "data"))
		require.NoError(t, err)
		at := time.Unix(0, rapid.Int64Range(0, 4e18).Draw(t, "at")).UTC()
		e := events.Event{ID: uuid.Max, Key: "k", Kind: rapid.SampledFrom(events.Kinds()).Draw(t, "kind"), OccurredAt: at, Data: data}
		require.NoError(t, e.Validate())
		first, err := e.Document()
		require.NoError(t, err)
		stored := e
		stored.OccurredAt = at.Truncate(time.Microsecond).In(time.FixedZone("", 3600))
		again, err := stored.Document()
		require.NoError(t, err)
		require.Equal(t, string(first), string(again))
	})
}

func TestNewUsage(t *testing.T) {
	t.Parallel()
	u := events.Usage{
		Organization: uuid.Max, Meter: "evaluations", Plan: "free", Mode: plans.Hard, Window: calendar.WindowDay,
		WindowStart: calendar.DayOf(now).Start(), WindowEnd: calendar.DayOf(now).End(), Percent: 80, Current: 801, Held: 7, Max: 1000,
	}
	e, err := events.NewUsage(u, now)
	require.NoError(t, err)
	require.NoError(t, e.Validate())
	require.Equal(t, events.UsageThresholdReached, e.Kind)
	require.Equal(t, "usage.threshold_reached/ffffffff-ffff-ffff-ffff-ffffffffffff/evaluations/day/2026-10-17/80", e.Key)
	require.Equal(t, u.Organization, e.Organization)
	require.JSONEq(t, `{"organization_id":"ffffffff-ffff-ffff-ffff-ffffffffffff","meter":"evaluations","plan":"free","mode":"hard",
		"window":"day","window_start":"2026-10-17T00:00:00Z","window_end":"2026-10-18T00:00:00Z","percent":80,"current":801,"held":7,"max":1000}`, string(e.Data))

	month := u
	month.Window, month.WindowStart, month.WindowEnd = calendar.WindowMonth, calendar.PeriodOf(now).Start(), calendar.PeriodOf(now).End()
	day := u
	day.WindowStart, day.WindowEnd = month.WindowStart, month.WindowStart.AddDate(0, 0, 1)
	ofMonth, err := events.NewUsage(month, now)
	require.NoError(t, err)
	ofDay, err := events.NewUsage(day, now)
	require.NoError(t, err)
	require.NotEqual(t, ofMonth.Key, ofDay.Key, "a month and its first day begin at the same time")

	u.Percent = 0
	passed, err := events.NewUsage(u, now)
	require.NoError(t, err)
	require.Equal(t, events.PlanLimitExceeded, passed.Kind)
	require.Equal(t, "plan.limit_exceeded/ffffffff-ffff-ffff-ffff-ffffffffffff/evaluations/day/2026-10-17/100", passed.Key)
}

func TestNewPlanChange(t *testing.T) {
	t.Parallel()
	c := events.PlanChange{Organization: uuid.Max, PreviousPlan: "free", Plan: "pro"}
	first, err := events.NewPlanChange(c, now)
	require.NoError(t, err)
	require.NoError(t, first.Validate())
	again, err := events.NewPlanChange(c, now)
	require.NoError(t, err)
	require.Equal(t, first.Key, again.Key, "whoever finds a change that has come into force tells of the same")
	second, err := events.NewPlanChange(c, now.Add(time.Microsecond))
	require.NoError(t, err)
	require.NotEqual(t, first.Key, second.Key, "each change is told of")
	ended, err := events.NewContractEnd(events.ContractEnd{Organization: uuid.Max, PreviousPlan: "pro"}, now)
	require.NoError(t, err)
	require.NoError(t, ended.Validate())
	require.JSONEq(t, `{"organization_id":"ffffffff-ffff-ffff-ffff-ffffffffffff","previous_plan":"pro"}`, string(ended.Data))
}
