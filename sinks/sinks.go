package sinks

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/money"
)

// Stripe is the name of the sink that makes invoices in Stripe.
const Stripe = "stripe"

// Names returns the sinks that there are, in the order of their names.
func Names() []string { return []string{Stripe} }

// Statement is what an organization owes for a period. It was issued: it never changes.
type Statement struct {
	// Number is unique forever: "TG-2026-10-000001".
	Number       string
	Organization uuid.UUID
	Currency     money.Currency
	// PeriodStart and PeriodEnd bound the period, [start, end), UTC.
	PeriodStart, PeriodEnd time.Time
	Lines                  []Line
}

// Line is one line of a statement.
type Line struct {
	// Position is unique within the statement, from 1.
	Position    int
	Description string
	// Amount is in the statement's currency; negative where it lessens what is owed.
	Amount decimal.Decimal
}

// ErrRefused says that a sink won't take a statement as it is: trying again doesn't help.
var ErrRefused = errors.New("the statement was refused")

// Error is what a sink answers when a delivery fails. Where it is refused, it is [ErrRefused].
type Error struct {
	// Sink is the sink's name, Statement the number of the statement.
	Sink, Statement string
	// Refused says that the same delivery would fail again.
	Refused bool
	// Err is why.
	Err error
}

// Error names the sink and the statement, and says why.
func (e *Error) Error() string {
	return fmt.Sprintf("deliver statement %s to %s: %v", e.Statement, e.Sink, e.Err)
}

// Unwrap returns why it failed.
func (e *Error) Unwrap() error { return e.Err }

// Is makes a refused delivery [ErrRefused].
func (e *Error) Is(target error) bool { return target == ErrRefused && e.Refused }

// Retryable reports whether the same delivery may succeed later.
func (e *Error) Retryable() bool { return !e.Refused }

// Customer is how a sink knows an organization.
type Customer struct {
	Organization uuid.UUID `json:"organization_id"`
	// Sink is one of [Names].
	Sink string `json:"sink"`
	// ExternalID is the sink's own: "cus_…". 1 to 255 characters.
	ExternalID string `json:"external_id"`
}

// maxExternalID is the longest identity in a sink, in characters: Stripe promises no more
// than 255.
const maxExternalID = 255

// ValidExternalID reports whether an identity has 1 to 255 characters, all of them
// printable ASCII without spaces.
func ValidExternalID(id string) bool {
	for _, c := range id {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return id != "" && utf8.RuneCountInString(id) <= maxExternalID
}
