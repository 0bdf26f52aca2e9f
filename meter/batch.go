package meter

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/plans"
)

// Errors that a [Store] answers with.
var (
	// ErrUnknownOrganization says that there is no such organization.
	ErrUnknownOrganization = accounts.ErrOrganizationNotFound
	// ErrSequenceGap says that a batch is not the one that follows the instance's last.
	ErrSequenceGap = errors.New("batch sequence has a gap")
	// ErrUnknownInstance says that the instance was never registered.
	ErrUnknownInstance = &fault.NotFoundError{Kind: "instance"}
	// ErrForgotten says that an instance began so long ago that the store may have deleted what it knew of it:
	// whether its usage was counted can't be told any more.
	ErrForgotten = errors.New("the store has forgotten instances of that time")
)

// BatchID is the identity of a batch: the instance that made it and its place in
// that instance's sequence, which counts up from 1 without gaps.
type BatchID struct {
	Instance uuid.UUID
	Seq      int64
}

// Row is the usage of one organization, meter, day and plan version within a batch.
type Row struct {
	Organization uuid.UUID
	// Meter is the meter's key.
	Meter string
	// Aggregation says how Value folds into what is stored.
	Aggregation plans.Aggregation
	// Day is the UTC day that the usage belongs to.
	Day calendar.Day
	// Plan and PlanVersion are what the usage is priced by: the plan version that admitted it or,
	// where it has a time of its own, that was in force then. Empty and 0: whatever is found to
	// have been in force at At.
	Plan        string
	PlanVersion int
	// Value is the sum, the peak or the last level of this batch alone.
	Value int64
	// At is the time of the last report in the row, UTC. It orders snapshots.
	At time.Time
	// Leased is the part of Value that was admitted out of the instance's leases; the
	// rest is unleased ([plans.Sum] only).
	Leased Leased
	// IdentifiedOnly says that Value stands for no report: the row's usage is that of its
	// identified reports alone.
	IdentifiedOnly bool
	// Identified are the reports that bear an identity. They are not in Value and Leased:
	// only those that nobody has counted before come on top, in their order.
	Identified []IdentifiedReport
}

// CompareRows orders rows as batches have them: by organization, meter, day, plan, version.
func CompareRows(a, b Row) int {
	return cmp.Or(
		bytes.Compare(a.Organization[:], b.Organization[:]),
		cmp.Compare(a.Meter, b.Meter),
		cmp.Compare(a.Day, b.Day),
		cmp.Compare(a.Plan, b.Plan),
		cmp.Compare(a.PlanVersion, b.PlanVersion),
	)
}

// Leased is a quantity that was admitted out of leases, by the kind of the lease's
// window. The window is the one that contains the row's day.
type Leased struct {
	Day, Month int64
}

// Total returns what was admitted out of leases of either kind.
func (l Leased) Total() int64 { return l.Day + l.Month }

// Batch is what one flush writes, whole or not at all. Rows are in the order of
// [CompareRows], one a key.
type Batch struct {
	ID BatchID
	// WatermarkOnly says that the batch has no identity of its own: its Seq is that of
	// the batch before, it has no rows, and it only moves the watermark. A batch
	// without rows that isn't WatermarkOnly uses up its sequence number.
	WatermarkOnly bool
	// Open is what is admitted and not settled, for people.
	Open OpenUsage
	// Watermark is the time up to which, this batch included, the instance has
	// flushed all that it admitted.
	Watermark time.Time
	Rows      []Row
	// Reports counts the reports that the batch acknowledges, duplicates included;
	// Journalled those of them that the journal had, nil where there is no journal.
	// The reconciler holds them against each other.
	Reports    int64
	Journalled *int64
}

// Applied says what became of a batch.
type Applied struct {
	// Duplicate is true where the batch had been applied before, and nothing was done.
	Duplicate bool
	// Differs says that what had been applied under the batch's identity is something else
	// ([Batch.SameAs]): the store keeps both, and has set aside what this one has beyond it. Only
	// where Duplicate.
	Differs bool
	// Stored holds, for each row of the batch, the day's value after that row, usage of
	// other instances included. Rows of one day under several plans follow each other.
	Stored []int64
	// Repeated holds, in their order, the identified reports that had been counted before, by
	// another batch, or that are conflicts: this one has not counted them.
	Repeated []BatchPlace
	// Conflicts counts those of them whose key another instance had taken with another
	// report, or for another request. Where Duplicate, it is 0.
	Conflicts int
	// Quarantined holds, in their order, what the store refuses for good and has set aside
	// in this batch's transaction: rows with all that they have, and single identified reports.
	Quarantined []BatchPlace
}

// WholeRow is the [BatchPlace.Report] of a row itself, with all its identified reports.
const WholeRow = -1

// BatchPlace is where an identified report is in its batch.
type BatchPlace struct {
	// Row is the row's place in [Batch.Rows], Report the identified report's in [Row.Identified], or
	// [WholeRow].
	Row, Report int
}

// Stored is what the store has of one meter of an organization.
type Stored struct {
	// Meter is the meter's key.
	Meter string
	// Day is the value of the day that was asked for.
	Day int64
	// DayAt is the time of the last report in Day.
	DayAt time.Time
	// Month folds the days of the month up to and including that day.
	Month int64
	// QuarantinedDay and QuarantinedMonth are what is set aside of them and not decided on
	// ([plans.Sum] only): it is on top of Day and Month.
	QuarantinedDay, QuarantinedMonth int64
	// HeldDay and HeldMonth are what reservations hold of the day, and of the month to its end
	// ([plans.Sum] only).
	HeldDay, HeldMonth int64
}

// Snapshot is what an instance needs to know of an organization before it can
// decide for it.
type Snapshot struct {
	Organization uuid.UUID
	// Plan is the key of the plan in force; empty: there is no contract.
	Plan string
	// Terms are the organization's plan versions over time in the order of From: from that of
	// [IdentityRetention] ago on, those to come included. Empty: only Plan is known, and
	// usage that has a time of its own is priced by what is found to have been in force.
	Terms []Term
	// ReadAt is when it was read, by the store's clock: the term that has begun by then is in
	// force. Zero: the reader's clock decides.
	ReadAt time.Time
	// Seen says which changes the plan and the terms contain.
	Seen Seen
	// Usage holds the meters that have stored usage; the others are at zero.
	Usage []Stored
}

// Store is the durable side of a meter.
type Store interface {
	// LoadOrganization reads the plan and the stored usage of the day and its month.
	// It answers [ErrUnknownOrganization] where there is none, and [ErrAskRefused] or
	// [ErrAskContested] where the store answers and doesn't say. Any other error says that the
	// store can't be asked.
	LoadOrganization(ctx context.Context, id uuid.UUID, day calendar.Day) (Snapshot, error)
	// ApplyBatch writes a batch in one transaction, once: a batch whose identity is
	// there already changes nothing and is answered with Duplicate. It answers
	// [ErrSequenceGap] where the batch before is missing. What it refuses for good it sets
	// aside: no row ever holds up the others.
	ApplyBatch(ctx context.Context, batch Batch) (Applied, error)
}
