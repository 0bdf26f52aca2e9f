package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/fault"
)

// ErrNotFound says that there is no such event.
var ErrNotFound = &fault.NotFoundError{Kind: "event"}

// Kind says what happened. A kind never changes its name: receivers choose by it.
type Kind string

// The kinds of events.
const (
	// UsageThresholdReached says that usage of a window has reached a percentage of its
	// limit. Its data is a [Usage].
	UsageThresholdReached Kind = "usage.threshold_reached"
	// PlanLimitExceeded says that a hard limit refused usage for the first time in a
	// window, or that a soft one was passed. Its data is a [Usage].
	PlanLimitExceeded Kind = "plan.limit_exceeded"
	// OrganizationUpgraded says that another plan is in force. Its data is a [PlanChange].
	OrganizationUpgraded Kind = "organization.upgraded"
	// OrganizationEnded says that an organization's contract has ended. Its data is a
	// [ContractEnd].
	OrganizationEnded Kind = "organization.ended"
	// ExportAwaitingApproval, ExportIssued and ExportClosed say how far the export of a
	// billing period is.
	ExportAwaitingApproval Kind = "export.awaiting_approval"
	ExportIssued           Kind = "export.issued"
	ExportClosed           Kind = "export.closed"
	// ExportReminder says that an export still waits for a decision of finance's.
	ExportReminder Kind = "export.reminder"
)

// Kinds returns all kinds.
func Kinds() []Kind {
	return []Kind{
		UsageThresholdReached, PlanLimitExceeded, OrganizationUpgraded, OrganizationEnded,
		ExportAwaitingApproval, ExportIssued, ExportClosed, ExportReminder,
	}
}

// Valid reports whether k is one of the kinds.
func (k Kind) Valid() bool { return slices.Contains(Kinds(), k) }

const (
	// MaxKey is the longest key, in bytes.
	MaxKey = 300
	// MaxData is the most data of one event, in bytes: receivers take payloads of at least
	// 20 kB (Standard Webhooks, "Payload size").
	MaxData = 16 << 10
)

// Event is something that happened, once.
type Event struct {
	// ID is what receivers know the event by: the header webhook-id.
	ID uuid.UUID `json:"id"`
	// Key is unique, 1 to [MaxKey] visible ASCII characters: of two events with the same
	// key, the first one counts.
	Key string `json:"key"`
	// Kind says what happened.
	Kind Kind `json:"kind"`
	// Organization is whom it is about; [uuid.Nil] for the platform.
	Organization uuid.UUID `json:"organization_id"`
	// OccurredAt is when it happened, UTC, to the microsecond.
	OccurredAt time.Time `json:"occurred_at"`
	// Data is a JSON object of at most [MaxData] bytes.
	Data json.RawMessage `json:"data"`
}

// Validate checks the fields. A broken rule is an [*fault.FieldError].
func (e Event) Validate() error {
	switch {
	case e.ID == uuid.Nil:
		return &fault.FieldError{Field: "id", Rule: "must be a UUID that is not nil"}
	case len(e.Key) < 1 || len(e.Key) > MaxKey || strings.ContainsFunc(e.Key, func(r rune) bool { return r <= ' ' || r > '~' }):
		return &fault.FieldError{Field: "key", Rule: fmt.Sprintf("must be 1 to %d visible ASCII characters", MaxKey)}
	case !e.Kind.Valid():
		return &fault.FieldError{Field: "kind", Rule: fmt.Sprintf("must be one of the kinds of events, %q is not", e.Kind)}
	case e.OccurredAt.IsZero():
		return &fault.FieldError{Field: "occurred_at", Rule: "must be given"}
	case len(e.Data) > MaxData:
		return &fault.FieldError{Field: "data", Rule: fmt.Sprintf("must be at most %d bytes, has %d", MaxData, len(e.Data))}
	case !json.Valid(e.Data) || !bytes.HasPrefix(bytes.TrimSpace(e.Data), []byte("{")):
		return &fault.FieldError{Field: "data", Rule: "must be a JSON object"}
	}
	return nil
}

// document is what is sent (Standard Webhooks, "Payload structure").
type document struct {
	Type      Kind            `json:"type"`
	Timestamp time.Time       `json:"timestamp"`
	Data      json.RawMessage `json:"data"`
}

// Document returns the body that receivers get: type, timestamp and data, compact. The
// same event has the same bytes each time, so that each attempt signs the same.
func (e Event) Document() ([]byte, error) {
	out, err := json.Marshal(document{Type: e.Kind, Timestamp: e.OccurredAt.UTC().Truncate(time.Microsecond), Data: e.Data})
	if err != nil {
		return nil, fmt.Errorf("write the document of event %s: %w", e.ID, err)
	}
	return out, nil
}
