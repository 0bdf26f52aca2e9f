package meter

import (
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/plans"
)

// Errors about usage that is set aside.
var (
	// ErrQuarantineNotFound says that nothing of the ID is set aside.
	ErrQuarantineNotFound = &fault.NotFoundError{Kind: "quarantined usage"}
	// ErrQuarantineDecided says that it was decided otherwise before.
	ErrQuarantineDecided = errors.New("it was decided on before, and otherwise")
	// ErrQuarantineRefused says that it is still refused for good.
	ErrQuarantineRefused = errors.New("it is still refused")
)

// QuarantineState says what has become of usage that was set aside.
type QuarantineState string

const (
	// QuarantineWaiting is usage that nobody has decided on.
	QuarantineWaiting QuarantineState = "quarantined"
	// QuarantineApplied is usage that was written after all.
	QuarantineApplied QuarantineState = "applied"
	// QuarantineDropped is usage that counts nowhere.
	QuarantineDropped QuarantineState = "dropped"
)

// Valid reports whether s is one of the states.
func (s QuarantineState) Valid() bool {
	return s == QuarantineWaiting || s == QuarantineApplied || s == QuarantineDropped
}

// Quarantined is a row of a batch, or a single report of one, that the store refused for
// good and has set aside. Text and times that couldn't be stored are as near as can be.
type Quarantined struct {
	ID uuid.UUID
	// Batch is the one that had it.
	Batch        BatchID
	Organization uuid.UUID
	// Meter is the meter's key, Aggregation what the instance took it to fold by.
	Meter       string
	Aggregation plans.Aggregation
	// Day is the UTC day that the usage belongs to.
	Day calendar.Day
	// Plan and PlanVersion are those of the row: see [Row].
	Plan        string
	PlanVersion int
	// Value is what it has, with its reports that bear an identity.
	Value int64
	// At is the time of its last report, UTC.
	At time.Time
	// Leased is the part of Value that was admitted out of leases.
	Leased Leased
	// Reports counts the reports in Value that bear an identity. They are known: sent again
	// they count no more.
	Reports int
	// Identity is that of a single report; the zero value for a row.
	Identity Identity
	// Reason says why it was refused, SQLState by which code of PostgreSQL; empty where it
	// was refused before it was sent.
	Reason, SQLState string
	QuarantinedAt    time.Time

	State QuarantineState
	// DecidedBy, DecidedAt and Note say who decided, when and why. Empty until then.
	DecidedBy string
	DecidedAt time.Time
	Note      string
}
