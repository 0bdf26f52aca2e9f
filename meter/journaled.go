package meter

import (
	"iter"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
)

// Record is one admitted report, as a [Journal] keeps it.
type Record struct {
	// Organization used it.
	Organization uuid.UUID
	// Meter is the meter's key.
	Meter string
	// Day is the UTC day that the usage belongs to.
	Day calendar.Day
	// Quantity is what was used, in the meter's unit: for a sum what to add, for a
	// peak or a snapshot the level.
	Quantity int64
	// At is the time of the report, in Unix nanoseconds.
	At int64
	// Lease is the kind of the window out of whose lease the quantity was admitted;
	// empty where it was admitted without one.
	Lease calendar.WindowKind
	// Plan and PlanVersion are what the usage is priced by, as in [Row].
	Plan        string
	PlanVersion int
	// Identity makes the report countable once; zero: it bears none, and then
	// Fingerprint, Batch and Receipt are zero, too.
	Identity    Identity
	Fingerprint Fingerprint
	Batch       BatchKey
	Receipt     Receipt
}

// leased returns the record's quantity by the kind of its lease.
func (r *Record) leased() Leased { return leasedOf(r.Lease, r.Quantity) }

func leasedOf(kind calendar.WindowKind, quantity int64) Leased {
	switch kind {
	case calendar.WindowDay:
		return Leased{Day: quantity}
	case calendar.WindowMonth:
		return Leased{Month: quantity}
	default:
		return Leased{}
	}
}

// Journal keeps what was admitted until its batch has been written. Segment n of an
// instance's journal holds what becomes the instance's batch n. Package
// meter/journal has one.
type Journal interface {
	// Append keeps a record, as durably as the journal is set to, and returns the
	// sequence of the segment that it is in. On an error it isn't in the journal.
	Append(Record) (seq int64, err error)
	// Waits says that Append waits for a device: then the meter calls it under no lock that other
	// requests need. It is always the same.
	Waits() bool
	// Prepare does beforehand what Rotate would need time for. Its error is for the log.
	Prepare() error
	// Rotate seals the active segment and returns its sequence.
	Rotate() (sealed int64, err error)
	// Records returns how many records a sealed segment has.
	Records(seq int64) int64
	// Written says that the batch of a sealed segment has been written: it may be kept for a
	// while, and goes then.
	Written(BatchID) error
	// Kept returns the records of a segment that is still there, written or not, and whether
	// it is. One that can't be read ends them with an error.
	Kept(BatchID) (records iter.Seq2[Record, error], ok bool)
	// Health returns why appends fail, and nil while they don't.
	Health() error
}
