package webhooks

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/fault"
)

var (
	// ErrEndpointNotFound says that there is no endpoint with that id, or none of the caller's.
	ErrEndpointNotFound = &fault.NotFoundError{Kind: "webhook endpoint"}
	// ErrDeliveryNotFound says that the event was not delivered to that endpoint.
	ErrDeliveryNotFound = &fault.NotFoundError{Kind: "delivery"}
	// ErrTooManyEndpoints says that an organization has [MaxEndpoints] already.
	ErrTooManyEndpoints = errors.New("too many webhook endpoints")
)

const (
	// MaxEndpoints is how many endpoints an organization, or the platform, may have.
	MaxEndpoints = 50
	// MaxURL is the most characters of an address.
	MaxURL = 2000
	// MaxDescription is the most characters of a description.
	MaxDescription = 500
	// Overlap is how long the secret before goes on signing after a rotation.
	Overlap = 24 * time.Hour
	// MaxRedeliveries is how many deliveries to one endpoint may be asked for at once.
	MaxRedeliveries = 100
	// RedeliveryEvery is how long it takes until there may be one more.
	RedeliveryEvery = 2 * time.Second
)

// RedeliveredTooOftenError says that deliveries to an endpoint were asked for faster than they may be.
type RedeliveredTooOftenError struct {
	// RetryAfter is how long it takes until one may be asked for, more than 0.
	RetryAfter time.Duration
}

// Error returns the rule.
func (e *RedeliveredTooOftenError) Error() string {
	return fmt.Sprintf("an endpoint takes %d deliveries that are asked for at once, and then one each %s", MaxRedeliveries, RedeliveryEvery)
}

// Endpoint is where events are sent.
type Endpoint struct {
	ID uuid.UUID
	// Organization is whose endpoint it is: it gets that organization's events. [uuid.Nil]
	// is the platform's, which gets every event.
	Organization uuid.UUID
	// URL is where a POST is sent, see [ValidateURL].
	URL string
	// Kinds are those that are wanted, in the order of [events.Kinds]. Empty: all.
	Kinds []events.Kind
	// Description is for people, at most [MaxDescription] characters.
	Description string
	// Secrets sign what is sent.
	Secrets Secrets
	// CreatedAt and UpdatedAt are UTC.
	CreatedAt, UpdatedAt time.Time
	// DisabledAt is when it was disabled, by its owner or by an answer 410; nil while it works.
	DisabledAt *time.Time
}

// Change is what of an endpoint is to change; nil fields stay.
type Change struct {
	URL         *string
	Kinds       *[]events.Kind
	Description *string
	// Disabled disables the endpoint, or enables it again.
	Disabled *bool
}

// Wants reports whether an event is to be sent to the endpoint.
func (e Endpoint) Wants(event events.Event) bool {
	if e.DisabledAt != nil || e.Organization != uuid.Nil && e.Organization != event.Organization {
		return false
	}
	return len(e.Kinds) == 0 || slices.Contains(e.Kinds, event.Kind)
}

// Validate checks what owners set. allowPrivate is that of [ValidateURL]. A broken rule
// is an [*fault.FieldError].
func (e Endpoint) Validate(allowPrivate bool) error {
	if err := ValidateURL(e.URL, allowPrivate); err != nil {
		return err
	}
	if err := ValidateKinds(e.Kinds); err != nil {
		return err
	}
	return ValidateDescription(e.Description)
}

// ValidateURL checks an endpoint's address: https, a host, no user, no fragment, at most
// [MaxURL] characters, and no address literal or name that can only be private. Whether a
// name leads to a private address is known when it is resolved, at each attempt.
// allowPrivate allows http and private addresses, for development.
func ValidateURL(raw string, allowPrivate bool) error {
	broken := func(rule string) error { return &fault.FieldError{Field: "url", Rule: rule} }
	if utf8.RuneCountInString(raw) > MaxURL {
		return broken(fmt.Sprintf("must be at most %d characters", MaxURL))
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Hostname() == "" || strings.ContainsAny(raw, " \t\r\n") {
		return broken("must be an absolute URL, https://…")
	}
	if u.User != nil || u.Fragment != "" {
		return broken("must have no user, password or fragment")
	}
	if u.Scheme != "https" && (!allowPrivate || u.Scheme != "http") {
		return broken("must begin with https://")
	}
	if allowPrivate {
		return nil
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if _, err := netip.ParseAddr(host); err == nil {
		return broken("must name a host: an address is refused")
	}
	if !strings.Contains(host, ".") || strings.HasSuffix(host, ".localhost") || strings.HasSuffix(host, ".internal") || strings.HasSuffix(host, ".local") {
		return broken("must name a public host")
	}
	// Of the last label's digits some resolvers make an address: 0x7f.1, 2130706433.
	if last := host[strings.LastIndexByte(host, '.')+1:]; last == "" || last[0] >= '0' && last[0] <= '9' {
		return broken("must name a host: an address is refused")
	}
	return nil
}

// ValidateKinds checks that each kind is known and named once.
func ValidateKinds(kinds []events.Kind) error {
	for i, k := range kinds {
		if !k.Valid() {
			return &fault.FieldError{Field: "kinds", Rule: fmt.Sprintf("must be kinds of events, %q is not", k)}
		}
		if slices.Contains(kinds[:i], k) {
			return &fault.FieldError{Field: "kinds", Rule: fmt.Sprintf("must name each kind once, %q is there twice", k)}
		}
	}
	return nil
}

// ValidateDescription checks a description: at most [MaxDescription] characters, none of
// them a control character.
func ValidateDescription(description string) error {
	if n := utf8.RuneCountInString(description); n > MaxDescription {
		return &fault.FieldError{Field: "description", Rule: fmt.Sprintf("must be at most %d characters, has %d", MaxDescription, n)}
	}
	if strings.ContainsFunc(description, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		return &fault.FieldError{Field: "description", Rule: "must not contain control characters"}
	}
	return nil
}

// Secrets are those of an endpoint.
type Secrets struct {
	// Current signs.
	Current string
	// Previous signs along until PreviousUntil; empty where there was none.
	Previous      string
	PreviousUntil time.Time
}

// secretPrefix is that of Standard Webhooks, "Signature scheme".
const secretPrefix = "whsec_"

// NewSecret makes a secret: "whsec_" and 32 random bytes in base64.
func NewSecret() string {
	var random [32]byte
	// crypto/rand.Read never fails (since Go 1.24 it ends the process instead).
	_, _ = rand.Read(random[:])
	return secretPrefix + base64.StdEncoding.EncodeToString(random[:])
}

// Rotate puts another secret in force; the one that was signs along for [Overlap].
func (s Secrets) Rotate(secret string, now time.Time) Secrets {
	return Secrets{Current: secret, Previous: s.Current, PreviousUntil: now.Add(Overlap).UTC()}
}

// Signing returns the secrets that sign at a time, the one in force first.
func (s Secrets) Signing(now time.Time) []string {
	if s.Previous != "" && now.Before(s.PreviousUntil) {
		return []string{s.Current, s.Previous}
	}
	return []string{s.Current}
}
