// Package accounts is the pure part of who may call: organizations, API keys and
// the roles that keys bear.
package accounts

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/fault"
)

// Errors of this package and of the stores that keep its types.
var (
	// ErrCurrencyFixed says that an organization's currency can't change any more: a
	// statement was issued to it, or credit granted.
	ErrCurrencyFixed = errors.New("the organization's currency is fixed, since a statement was issued or credit granted in it")
)

// DefaultCurrency is that of an organization for which none was chosen.
const DefaultCurrency = "USD"

// Organization is a tenant of the platform.
type Organization struct {
	ID uuid.UUID `json:"id"`
	// Name is what people and exports show, 1 to 200 characters.
	Name string `json:"name"`
	// Plan is the key of the plan that is in force now; empty before the contract begins
	// and after it has ended.
	Plan string `json:"plan"`
	// PendingPlan is the plan that is to follow, and PendingFrom when; absent where no
	// change is pending.
	PendingPlan string     `json:"pending_plan,omitempty"`
	PendingFrom *time.Time `json:"pending_from,omitempty"`
	// EndsAt is when the contract ends, or ended; absent where it goes on.
	EndsAt *time.Time `json:"ends_at,omitempty"`
	// Currency is the ISO 4217 code in which it is billed.
	Currency string `json:"currency"`
	// CreatedAt and UpdatedAt are UTC.
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// Changed is an organization as a change has left it.
type Changed struct {
	Organization
	// Transaction is the store's that made the change: who has seen it knows the change.
	Transaction uint64
}

// NewOrganization is what an organization is made of.
type NewOrganization struct {
	// Name is 1 to 200 characters.
	Name string
	// Plan is the key of its first plan; empty is the catalog's default plan.
	Plan string
	// Currency is an ISO 4217 code; empty is [DefaultCurrency].
	Currency string
	// EffectiveAt is from when it has its first plan; zero is from its making on.
	EffectiveAt time.Time
}

// ValidateName checks an organization's or a key's name: 1 to 200 characters, of which one shows
// something, and no control characters.
func ValidateName(field, name string) error {
	if n := utf8.RuneCountInString(name); n < 1 || n > 200 || IsBlank(name) {
		return &fault.FieldError{Field: field, Rule: fmt.Sprintf("must be 1 to 200 characters and not blank, has %d", n)}
	}
	if strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }) {
		return &fault.FieldError{Field: field, Rule: "must not contain control characters"}
	}
	return nil
}

// IsBlank reports whether a text shows nothing: blanks, and characters that nobody sees.
func IsBlank(text string) bool { return !strings.ContainsFunc(text, shows) }

// shows reports whether people see a character: it is no blank (Braille has one of its own), and
// none that Unicode says to ignore where it can't be shown.
func shows(r rune) bool {
	return !unicode.IsSpace(r) && r != '\u2800' && r != utf8.RuneError &&
		!unicode.In(r, unicode.Cf, unicode.Cc, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}
