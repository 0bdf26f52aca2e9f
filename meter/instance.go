package meter

import (
	"time"

	"github.com/google/uuid"
)

// InstanceStatus is the state of an instance as the store knows it.
type InstanceStatus string

// The states. An instance is live until it stops cleanly or is declared lost;
// a lost one that flushes again is live again.
const (
	InstanceLive    InstanceStatus = "live"
	InstanceStopped InstanceStatus = "stopped"
	InstanceLost    InstanceStatus = "lost"
)

// Instance is one process that meters.
type Instance struct {
	// ID is a UUIDv7 that the process made when it started.
	ID uuid.UUID `json:"id"`
	// Host is where it runs, for people.
	Host string `json:"host"`
	// Status is its state.
	Status InstanceStatus `json:"status"`
	// StartedAt and SeenAt are when it registered and when it last flushed, UTC.
	StartedAt time.Time `json:"started_at"`
	SeenAt    time.Time `json:"seen_at"`
	// LastSeq is the sequence of its last batch; 0 before the first.
	LastSeq int64 `json:"last_seq"`
	// Watermark is the time up to which it has flushed all that it admitted, UTC.
	Watermark time.Time `json:"watermark"`
	// Open is what it had admitted and not settled at its last flush.
	Open OpenUsage `json:"open,omitzero"`
	// LostAfter is how long the store must not have seen it before anybody declares it lost, 1 ms or
	// more. Zero: [DefaultLostAfter].
	LostAfter time.Duration `json:"-"`
	// Leased adds up its leases: what it may still use of hard limits without asking.
	Leased int64 `json:"leased"`
	// LostQuota adds up the leases that were released because it was declared lost: the
	// most that can have been admitted beyond limits through it.
	LostQuota int64 `json:"lost_quota"`
}

// OpenUsage says what requests that may take long hold: the oldest of them, and how many there are.
type OpenUsage struct {
	// Count counts those that are not settled.
	Count int `json:"count"`
	// Since is when the oldest was admitted, UTC; zero where there is none. Organization and Meter
	// are what it uses.
	Since        time.Time `json:"since,omitzero"`
	Organization uuid.UUID `json:"organization_id,omitzero"`
	Meter        string    `json:"meter,omitempty"`
}

// Stand counts what of usage waits for somebody, or is stuck.
type Stand struct {
	// Quarantined is what was set aside and waits for a decision.
	Quarantined int64
	// MissingBatches are lost; BatchConflicts differ from the one that was applied under their identity.
	MissingBatches, BatchConflicts int64
	// StuckReservations have expired, and can't be ended.
	StuckReservations int64
}

// DefaultLostAfter is how long an instance may be unseen that says nothing else.
const DefaultLostAfter = time.Minute

// Patience returns LostAfter, or its default.
func (i Instance) Patience() time.Duration {
	if i.LostAfter > 0 {
		return i.LostAfter
	}
	return DefaultLostAfter
}
