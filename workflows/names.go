package workflows

import (
	"github.com/google/uuid"
	"go.temporal.io/sdk/temporal"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/calendar"
)

// TaskQueue is the queue of all workflows but [DeliverEvent], and of the activities that any worker
// may run.
const TaskQueue = "tollgate"

// WebhooksQueue is the queue of deliveries to endpoints, apart: receivers that hang must not hold up
// anything else.
const WebhooksQueue = "tollgate-webhooks"

// SinksQueue is the queue of what only a worker with the key of a sink can do.
const SinksQueue = "tollgate-sinks"

// InstanceQueue returns the queue of the activities that only one API instance can run.
func InstanceQueue(instance uuid.UUID) string { return "tollgate-instance-" + instance.String() }

// FlushLoopID returns the workflow ID of an instance's FlushLoop.
func FlushLoopID(instance uuid.UUID) string { return "flush/" + instance.String() }

// RollUpDayID returns the workflow ID of a day's RollUpDay.
func RollUpDayID(day calendar.Day) string { return "rollup/" + day.String() }

// ExportPeriodID returns the workflow ID of a period's ExportPeriod.
func ExportPeriodID(period calendar.Period) string { return "export/" + period.String() }

// DeliverExportID returns the workflow ID of the delivery of a period's statements: one at a
// time, whichever revision they are of.
func DeliverExportID(period calendar.Period) string { return ExportPeriodID(period) + "/deliver" }

// DispatchEventsID is the workflow ID of the one DispatchEvents.
const DispatchEventsID = "dispatch-events"

// DeliverEventID returns the workflow ID of the delivery of an event to an endpoint.
func DeliverEventID(event, endpoint uuid.UUID) string {
	return "deliver/" + event.String() + "/" + endpoint.String()
}

// The IDs of the schedules, and the first part of the IDs of what they start: the
// server adds the scheduled time.
const (
	DailyRollUpScheduleID   = "daily-rollup"
	MonthlyExportScheduleID = "monthly-export"
	HousekeepingScheduleID  = "housekeeping"

	dailyRollUpID   = "rollup/scheduled"
	monthlyExportID = "export/scheduled"
	housekeepingID  = "housekeeping/scheduled"
)

// The names of updates, signals and queries.
const (
	// UpdateFlushNow makes a [FlushLoop] flush at once.
	UpdateFlushNow = "FlushNow"
	// UpdateDrain makes a [FlushLoop] flush for the last time and end.
	UpdateDrain = "Drain"
	// UpdateDecide is finance's decision on an [ExportPeriod] that waits for one.
	UpdateDecide = "Decide"
	// SignalRedeliver makes a [DeliverEvent] try at once.
	SignalRedeliver = "Redeliver"
	// QueryProgress asks any workflow how far it is.
	QueryProgress = "progress"
)

// MemoRequestedBy is the memo that says who started a workflow, and temporalUI who did where
// the input doesn't say: somebody by hand.
const (
	MemoRequestedBy = "requested_by"
	temporalUI      = "temporal-ui"
)

// The search attributes, all of type Keyword.
var (
	// PeriodAttribute is the billing period, YYYY-MM, of an export or a rollup.
	PeriodAttribute = temporal.NewSearchAttributeKeyKeyword("TollgatePeriod")
	// OrganizationAttribute is the organization that a workflow is about.
	OrganizationAttribute = temporal.NewSearchAttributeKeyKeyword("TollgateOrganization")
	// InstanceAttribute is the instance that a workflow is about.
	InstanceAttribute = temporal.NewSearchAttributeKeyKeyword("TollgateInstance")
	// StageAttribute is how far a workflow is.
	StageAttribute = temporal.NewSearchAttributeKeyKeyword("TollgateStage")
)

// SearchAttributes returns the keys of all search attributes.
func SearchAttributes() []temporal.SearchAttributeKeyKeyword {
	return []temporal.SearchAttributeKeyKeyword{PeriodAttribute, OrganizationAttribute, InstanceAttribute, StageAttribute}
}

// scheduledTime is set by the server on what a schedule starts.
var scheduledTime = temporal.NewSearchAttributeKeyTime("TemporalScheduledStartTime")

// The types of errors with which workflows end, beside those of package activities.
// A type never changes its name.
const (
	// TypeInvalidInput is an input that breaks a rule; the text names the field.
	TypeInvalidInput = activities.TypeInvalidInput
	// TypeDayNotOver is a rollup of a day that has not ended.
	TypeDayNotOver = "DayNotOver"
	// TypePeriodNotBegun is an export of a period that lies in the future.
	TypePeriodNotBegun = "PeriodNotBegun"
	// TypeNotAwaiting is a decision on an export that waits for none of its kind.
	TypeNotAwaiting = "NotAwaiting"
	// TypeNotReviewed is an approval before the variances were reviewed.
	TypeNotReviewed = "NotReviewed"
	// TypeParked is an approval while organizations are parked that doesn't leave them out.
	TypeParked = "Parked"
	// TypeSelfApproval is an approval by who requested the export.
	TypeSelfApproval = "SelfApproval"
	// TypeHousekeeping is a housekeeping of which a step failed for good.
	TypeHousekeeping = "HousekeepingFailed"
	// TypeRunCanceled is a run that another one rests on, and that was canceled by itself.
	TypeRunCanceled = "RunCanceled"
	// TypeDraining is a flush that was asked of an instance that is being drained.
	TypeDraining = "Draining"
	// TypeInstanceUnreachable is an instance whose worker takes no work.
	TypeInstanceUnreachable = "InstanceUnreachable"
)
