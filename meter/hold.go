package meter

import (
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/plans"
)

// Errors about stored reservations.
var (
	// ErrReservationNotFound says that the organization has no such reservation.
	ErrReservationNotFound = &fault.NotFoundError{Kind: "reservation"}
	// ErrReservationEnded says that the reservation was released or has expired, or was
	// committed with another quantity.
	ErrReservationEnded = errors.New("the reservation has ended")
)

// QuotaShortError says that a window's quota doesn't cover a quantity. Its members are
// those of [LeaseAnswer].
type QuotaShortError struct {
	Max, Consumed, Unleased, Leased, Held int64
	// Current is what of it is used, and not held, as far as the store knows.
	Current int64
	// Waiting says that instances were asked to give back what they don't use.
	Waiting bool
}

// Error says how much there is.
func (e *QuotaShortError) Error() string { return "the quota of the window is used up" }

// Undecided reports whether a quantity may be had yet, of what instances hold and don't use, or
// once a change of the plan is taken over: that it is short is then no refusal.
func (e *QuotaShortError) Undecided(quantity int64) bool {
	return e.Waiting && quantity <= e.Max-e.Current-e.Held
}

// ReservationState is the state of a stored reservation.
type ReservationState string

// The states. Only a held reservation can change; the others are final.
const (
	ReservationHeld      ReservationState = "held"
	ReservationCommitted ReservationState = "committed"
	ReservationReleased  ReservationState = "released"
	ReservationExpired   ReservationState = "expired"
)

// StoredReservation is a quantity that is held in the store, so that it outlives the
// instance that made it and any instance can settle it. Its usage belongs to the day,
// and the window, in which it was made.
type StoredReservation struct {
	ID           uuid.UUID
	Organization uuid.UUID
	// Meter is the key of a [plans.Sum] meter.
	Meter string
	// Quantity is what is held, 1 to [plans.MaxQuantity]; Committed what was counted in
	// the end, where State is committed.
	Quantity, Committed int64
	State               ReservationState
	// CreatedAt and ExpiresAt bound the time in which it is held; SettledAt is when it
	// was committed, released or found expired, zero before. UTC, all by the store's clock:
	// CreatedAt of one that is to be held only says how long before ExpiresAt it begins.
	CreatedAt, ExpiresAt, SettledAt time.Time
	// Plan in its PlanVersion and Mode decided, and price the usage, whenever it is
	// committed. Window is the kind of window that Max counts in.
	Plan        string
	PlanVersion int
	Mode        plans.Mode
	Window      calendar.WindowKind
	Max         int64
	// Current is the window's usage as the caller was told, and Held what reservations held of
	// it, this one included.
	Current, Held int64
	OverLimit     bool
	// Identity and Fingerprint are those of the request that made it; zero where it bore
	// none.
	Identity    Identity
	Fingerprint Fingerprint
}
