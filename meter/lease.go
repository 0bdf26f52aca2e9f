package meter

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
)

// QuotaWindow names what a hard limit bounds: the usage of one meter by one
// organization in one window.
type QuotaWindow struct {
	Organization uuid.UUID
	// Meter is the key of a [plans.Sum] meter.
	Meter string
	Kind  calendar.WindowKind
	// Start is the window's first day.
	Start calendar.Day
}

// LeaseAsk says how much of a window's quota an instance wants to have been issued.
//
// Issued counts up over the life of the lease: all that was ever granted, less what was
// given back unused. It names an outcome and not a change, so an ask whose answer
// was lost may be made again. Version counts the asks of a lease from 1: one that
// comes after a later one changes nothing.
type LeaseAsk struct {
	QuotaWindow
	// Generation tells apart the times at which the instance began to account for the
	// window: with a later one the lease begins anew, and asks of an earlier one change nothing.
	Generation int64
	Version    int64
	// Issued is what the instance wants. Less than it has: it gives quota back. More: it
	// asks, and is granted between nothing and that.
	Issued int64
	// Spent is how much of what was issued the instance has admitted, as of this ask.
	// An instance to which more was issued holds some idle, and can be asked for it.
	Spent int64
	// Outstanding is the part of Spent that is in none of the batches up to the one that the call
	// names. It is the instance's whatever the window has left, also beyond the limit: a lease that
	// begins anew, or that the store has released or lost, begins with it; where the store has just
	// those batches, what it keeps of the lease is this and what is idle.
	Outstanding int64
	// Adopted is the part of Issued that was admitted before the limit was in force and was
	// not settled then: it is taken out of the window whatever that has left, also beyond the
	// limit. Less than before: some was settled before the store was told of it.
	Adopted int64
	// Need is how much a request waits for. Up to it the instance is granted all that
	// remains; beyond it at most an even share of that, among the instances that have a lease of the
	// window. Where it can't be granted, other
	// instances are asked to give back what they don't use. Zero: nobody waits.
	Need int64
	// Look says that the instance wants to know where the window stands: others that hold
	// some idle are asked to say what they have spent.
	Look bool
	// Plan, PlanVersion and Max are what the instance takes to be in force. Where that
	// is out of date, nothing is granted.
	Plan        string
	PlanVersion int
	Max         int64
}

// LeaseAnswer is what became of an ask.
type LeaseAnswer struct {
	// Issued is what the instance may have admitted in all, in the terms of [LeaseAsk].
	Issued int64
	// Outdated says that another plan, or another version of it, is in force: nothing
	// was granted.
	Outdated bool
	// Waiting says that other instances may give quota back, or are yet to take a change of
	// the plan over: the ask is worth repeating. Changing says that it is the latter: nothing
	// is granted until then.
	Waiting, Changing bool
	// Max is the limit in force. Consumed is the usage of the window that leases
	// covered, Unleased the rest of it, Leased what all instances hold, this one
	// included, and Held what reservations hold.
	Max, Consumed, Unleased, Leased, Held int64
	// Outstanding is this instance's part of Leased.
	Outstanding int64
	// Idle is the part of Leased that other instances had not spent when they last asked, and
	// that no request of theirs waited for then.
	Idle int64
}

// LeaseAnswers are the answers to a call.
type LeaseAnswers struct {
	// Answers has one for each ask, in their order.
	Answers []LeaseAnswer
	// SeenAgo is how long ago the store has seen the instance, this call included: its leases
	// are released once that is too long ([Config.LeaseFor]).
	SeenAgo time.Duration
}

// ErrAskRefused says that the store refuses an ask, or to load an organization, for what it names,
// and not because of a state that passes: nothing of the call was carried out, and other asks may
// be made without that one.
var ErrAskRefused = errors.New("the store refuses what it is asked")

// ErrAskContested says that the store answers an ask, or a load of an organization, and can't carry
// it out now: somebody has locked what it names, or it was stopped. It may be made again.
var ErrAskContested = errors.New("the store can't do now what it is asked")

// LeaseStore gives instances parts of hard limits, so that together they never
// exceed one.
type LeaseStore interface {
	// AdjustLeases answers each ask, in their order, in one transaction. Asks are for
	// distinct windows. Where one of them is refused for good, the error is [ErrAskRefused]; where
	// the store answers and can't decide on one now, [ErrAskContested]. Any other error but
	// [ErrStoreBehind] and [ErrUnknownInstance] says that the store can't be asked.
	//
	// By names the instance, and the last batch that the store has acknowledged to it: a store
	// that doesn't have that one grants nothing ([ErrStoreBehind]).
	AdjustLeases(ctx context.Context, by BatchID, asks []LeaseAsk) (LeaseAnswers, error)
}

// IdentityStore knows the identities that were counted.
type IdentityStore interface {
	// KnownReports returns those of the identities that were counted for an organization,
	// in any order.
	KnownReports(ctx context.Context, organization uuid.UUID, identities []Identity) ([]KnownReport, error)
}
