package meter

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// IdentityRetention is how long an identity stays known, from the time at which its
// usage was reported: within it, the same identity counts once.
const IdentityRetention = 35 * 24 * time.Hour

// Errors about reports that bear an identity.
var (
	// ErrIdentityReused says that an identity came again with another report.
	ErrIdentityReused = errors.New("the idempotency key was used with another request")
)

// Identity is what makes a report countable once, within its organization: a digest of
// an idempotency key, or of a CloudEvent's source and id. The zero value is no
// identity.
type Identity [16]byte

// KeyIdentity returns the identity of an idempotency key.
func KeyIdentity(key string) Identity { return digest("key", key) }

// CloudEventIdentity returns the identity of a CloudEvent (CloudEvents 1.0.2, section
// 3.1.1: source and id together are unique).
func CloudEventIdentity(source, id string) Identity { return digest("cloudevent", source, id) }

// digest is the first half of SHA-256 over the parts, each with its length before it.
func digest(parts ...string) Identity {
	var room [512]byte
	all := room[:0]
	for _, part := range parts {
		all = binary.BigEndian.AppendUint32(all, uint32(len(part)))
		all = append(all, part...)
	}
	sum := sha256.Sum256(all)
	return Identity(sum[:16])
}

// String returns the identity in hexadecimal digits.
func (i Identity) String() string { return hex.EncodeToString(i[:]) }

// Fingerprint tells two reports under one identity apart: a digest of all that the
// caller said.
type Fingerprint [8]byte

// FingerprintOf digests what a caller said, part by part.
func FingerprintOf(parts ...string) Fingerprint {
	full := digest(parts...)
	return Fingerprint(full[:8])
}

// BatchKey binds the reports of one request to its idempotency key. The zero value is none.
type BatchKey struct {
	// Identity is the key's, by [BatchIdentity].
	Identity Identity
	// Fingerprint digests all items of the request, in their order: of two requests under one
	// key with different ones, only the first counts.
	Fingerprint Fingerprint
}

// BatchIdentity returns the identity of the idempotency key of a request with many reports. It
// is none of those that [KeyIdentity] returns.
func BatchIdentity(key string) Identity { return digest("batch", key) }

// IdentifiedReport is a report that bears an identity.
type IdentifiedReport struct {
	Identity    Identity
	Fingerprint Fingerprint
	// Batch is the key of the request that the report came in; zero: it bore none.
	Batch BatchKey
	// Quantity is in the meter's unit: for a sum what to add, otherwise the level.
	Quantity int64
	// At is the time of the report, UTC.
	At time.Time
	// Leased is the part of Quantity that was admitted out of leases: all or nothing.
	Leased Leased
	// Receipt is what the caller was told.
	Receipt Receipt
}

// Receipt is what is kept of the answer to a report that bears an identity, so that
// the same report is given the same answer.
type Receipt struct {
	// Plan is the key of the plan that decided; empty where the store couldn't be asked.
	Plan string
	Mode plans.Mode
	// OverLimit, Current, Held and Max are those of the decision.
	OverLimit          bool
	Current, Held, Max int64
	// Window is the kind of window that the decision was made in: the one that contains
	// the report's day.
	Window calendar.WindowKind
}

// KnownReport is a report that the store has counted.
type KnownReport struct {
	Organization uuid.UUID
	// Meter is the meter's key, Day the day that the usage belongs to.
	Meter  string
	Day    calendar.Day
	Report IdentifiedReport
}
