package accounts

import (
	"errors"
	"time"

	"github.com/google/uuid"
)

// WriteRetention is how long the answer to a write that bore an Idempotency-Key is
// kept, and WriteTimeout how long a write whose answer is not known keeps others with
// its key out: after it, its process is taken to have ended.
const (
	WriteRetention = 35 * 24 * time.Hour
	WriteTimeout   = time.Minute
)

// Errors about writes that bear an Idempotency-Key.
var (
	// ErrWriteUnderWay says that the same write is under way.
	ErrWriteUnderWay = errors.New("a request with this Idempotency-Key is under way")
	// ErrWriteReused says that the key came again with another request.
	ErrWriteReused = errors.New("the Idempotency-Key was used with another request")
)

// Write identifies a request that changes something
// (draft-ietf-httpapi-idempotency-key-header-07).
type Write struct {
	// Caller is the id of the API key that the request bore.
	Caller uuid.UUID
	// Key is the SHA-256 of the Idempotency-Key, Fingerprint that of method, path and body.
	Key, Fingerprint [32]byte
}

// WriteAnswer is the answer to a write, as it is given again.
type WriteAnswer struct {
	Status      int
	ContentType string
	Body        []byte
}
