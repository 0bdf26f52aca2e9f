package activities

import (
	"cmp"
	"context"
	"time"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
)

// RollupStore rolls up days.
type RollupStore interface {
	// RollUpDay folds a day's batches into the closed day, in one transaction.
	RollUpDay(ctx context.Context, day calendar.Day) (billing.DayRollup, error)
	// DaysToRollUp returns, in order, the days of a range, both ends included, that
	// have no rollup or one that is out of date.
	DaysToRollUp(ctx context.Context, from, to calendar.Day) ([]calendar.Day, error)
	// Reconcile compares what each layer says of the usage of a range of days, both ends
	// included.
	Reconcile(ctx context.Context, from, to calendar.Day) (billing.Reconciliation, error)
	// DeleteExpired deletes what is kept for a time only and is older than a time.
	DeleteExpired(ctx context.Context, before time.Time) (billing.Expired, error)
	// DeleteEvents deletes events that are older than a time and need not be sent any more, and what
	// is left of deleted endpoints.
	DeleteEvents(ctx context.Context, before time.Time) (billing.Expired, error)
	// DropUsageRows drops the batch rows of closed months that as many closed ones follow, and
	// returns how many months they were.
	DropUsageRows(ctx context.Context, later int) (int64, error)
	// DeleteInstances deletes batches and instances that are older than a time and that nothing names.
	DeleteInstances(ctx context.Context, before time.Time) (billing.Expired, error)
	// EnsurePartitions makes the partitions of the day's month and of the months after it.
	EnsurePartitions(ctx context.Context, day calendar.Day, monthsAhead int) error
}

// RollupConfig is what a [Rollup] is made from.
type RollupConfig struct {
	// Store rolls up. Required.
	Store RollupStore
	// Audit is the audit log, and Blobs where the digests of its days are written. Nil: none are.
	Audit AuditStore
	Blobs Blobs
	// Retention says how long is kept what no book needs.
	Retention Retention
	// Reconciled is told of every reconciliation: a metric. Nil: nobody is told.
	Reconciled func(billing.Reconciliation)
}

// Retention says how long is kept what no book needs, beyond the time for which an identity counts. A zero
// field: for ever.
type Retention struct {
	// Events is how long events, what was sent of them, and deleted endpoints are kept.
	Events time.Duration
	// LaterMonths is how many closed months must follow a closed one before its batch rows are dropped, 4 or
	// more: the closes of three correct it, and the last of them may be opened again.
	LaterMonths int
	// Instances is how long batches without rows, and instances that are gone, are kept.
	Instances time.Duration
}

// Rollup has the activities that close days.
type Rollup struct{ config RollupConfig }

// NewRollup makes the activities that close days. It panics where a required field
// of the config is missing.
func NewRollup(config RollupConfig) *Rollup {
	if config.Store == nil {
		panic("activities: RollupConfig.Store is required")
	}
	return &Rollup{config: config}
}

// FoldDayInput says which day to fold.
type FoldDayInput struct {
	// Day has ended, and every live instance has flushed it.
	Day calendar.Day `json:"day"`
}

// FoldDay folds a day's batches into the closed day.
func (r *Rollup) FoldDay(ctx context.Context, in FoldDayInput) (billing.DayRollup, error) {
	beats := startBeating(ctx, in)
	defer beats.stop()
	rollup, err := r.config.Store.RollUpDay(ctx, in.Day)
	return rollup, classify(err)
}

// DaysToRollUpInput is a range of days.
type DaysToRollUpInput struct {
	// From and To are the first and the last day, both included.
	From calendar.Day `json:"from"`
	To   calendar.Day `json:"to"`
}

// DaysToRollUpResult names the days that need a rollup.
type DaysToRollUpResult struct {
	// Days are in order. A day continues the one before it, so they are rolled up in
	// order too.
	Days []calendar.Day `json:"days"`
}

// DaysToRollUp looks for days without a rollup, or with one that is out of date.
func (r *Rollup) DaysToRollUp(ctx context.Context, in DaysToRollUpInput) (DaysToRollUpResult, error) {
	days, err := r.config.Store.DaysToRollUp(ctx, in.From, in.To)
	return DaysToRollUpResult{Days: days}, classify(err)
}

// ReconcileInput is a range of days.
type ReconcileInput struct {
	// From and To are the first and the last day, both included.
	From calendar.Day `json:"from"`
	To   calendar.Day `json:"to"`
}

// ReconcileResult says what was compared. The whole list of differences is for
// `tollgate reconcile`.
type ReconcileResult struct {
	Compared []billing.Compared `json:"compared"`
	// Different counts all differences; First holds the first of them, at most 20.
	Different int64                `json:"different"`
	First     []billing.Difference `json:"first,omitempty"`
}

// maxListed bounds how many differences a result names.
const maxListed = 20

// Reconcile compares what each layer says of the usage of days. Differences are a
// result, not a failure.
func (r *Rollup) Reconcile(ctx context.Context, in ReconcileInput) (ReconcileResult, error) {
	beats := startBeating(ctx, in)
	defer beats.stop()
	found, err := r.config.Store.Reconcile(ctx, in.From, in.To)
	if err != nil {
		return ReconcileResult{}, classify(err)
	}
	if r.config.Reconciled != nil {
		r.config.Reconciled(found)
	}
	return ReconcileResult{
		Compared: found.Compared, Different: found.Different(), First: found.Differences[:min(len(found.Differences), maxListed)],
	}, nil
}

// DeleteExpiredInput says what is old.
type DeleteExpiredInput struct {
	// Before is the time before which things are. Required.
	Before time.Time `json:"before"`
	// At is when the run was due: what has a [Retention] is deleted by it. Zero: nothing of that is.
	At time.Time `json:"at,omitzero"`
}

// DeleteExpired deletes what is kept for a time only: identities, answers to writes,
// ended reservations and windows that are over. With it go the digests of the audit log: neither waits for
// the other.
func (r *Rollup) DeleteExpired(ctx context.Context, in DeleteExpiredInput) (billing.Expired, error) {
	if in.Before.IsZero() {
		return billing.Expired{}, missing("before")
	}
	beats := startBeating(ctx, in)
	defer beats.stop()
	digested := r.digestAudit(ctx)
	deleted, err := r.config.Store.DeleteExpired(ctx, in.Before)
	return deleted, classify(cmp.Or(err, r.deleteOld(ctx, in.At, &deleted), digested))
}

// deleteOld deletes what has a [Retention], and adds it to what was deleted.
func (r *Rollup) deleteOld(ctx context.Context, at time.Time, deleted *billing.Expired) error {
	keep := r.config.Retention
	if at.IsZero() {
		return nil
	}
	var failed []error
	if keep.Events > 0 {
		found, err := r.config.Store.DeleteEvents(ctx, at.Add(-keep.Events))
		deleted.Events, deleted.Endpoints = found.Events, found.Endpoints
		failed = append(failed, err)
	}
	if keep.LaterMonths > 0 {
		months, err := r.config.Store.DropUsageRows(ctx, keep.LaterMonths)
		deleted.Months = months
		failed = append(failed, err)
	}
	if keep.Instances > 0 {
		found, err := r.config.Store.DeleteInstances(ctx, at.Add(-keep.Instances))
		deleted.Batches, deleted.LostLeases, deleted.Instances = found.Batches, found.LostLeases, found.Instances
		failed = append(failed, err)
	}
	return cmp.Or(failed...)
}

// EnsurePartitionsInput says for which months.
type EnsurePartitionsInput struct {
	// Day lies in the first month.
	Day calendar.Day `json:"day"`
	// MonthsAhead counts the months after that one, 0 to 119.
	MonthsAhead int `json:"months_ahead"`
}

// EnsurePartitions makes the partitions of the months to come, where they are missing.
func (r *Rollup) EnsurePartitions(ctx context.Context, in EnsurePartitionsInput) error {
	beats := startBeating(ctx, in)
	defer beats.stop()
	return classify(r.config.Store.EnsurePartitions(ctx, in.Day, in.MonthsAhead))
}
