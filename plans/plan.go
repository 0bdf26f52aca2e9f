package plans

import "github.com/riverline/tollgate/calendar"

// Mode says what happens beyond a limit.
type Mode string

// The modes.
const (
	// Hard refuses what would pass the limit (HTTP 402).
	Hard Mode = "hard"
	// Soft admits it, flags it and logs it.
	Soft Mode = "soft"
	// Unlimited has no limit: usage is counted and never refused.
	Unlimited Mode = "unlimited"
)

// Valid reports whether m is one of the modes.
func (m Mode) Valid() bool { return m == Hard || m == Soft || m == Unlimited }

// Entitlement is a plan's limit of one meter.
type Entitlement struct {
	// Meter is the meter's key.
	Meter string `json:"meter" yaml:"meter"`
	// Mode says what happens beyond Max.
	Mode Mode `json:"mode" yaml:"mode"`
	// Window is the time after which counting starts again. The zero value of an
	// unlimited entitlement means a day.
	Window calendar.WindowKind `json:"window,omitempty" yaml:"window,omitempty"`
	// Max is the largest usage in one window that is within the limit, in the
	// meter's unit, 0 to [MaxQuantity]. An unlimited entitlement has none: 0.
	Max int64 `json:"max,omitempty" yaml:"max,omitempty"`
}

// RateLimit bounds the speed of metered requests, apart from any quota: a token
// bucket per organization and instance.
type RateLimit struct {
	// RequestsPerSecond is the rate at which tokens come back. Zero: no rate limit.
	RequestsPerSecond int `json:"requests_per_second" yaml:"requests_per_second"`
	// Burst is the size of the bucket, at least 1 where there is a rate.
	Burst int `json:"burst" yaml:"burst"`
}

// MaxRank is the highest rank of a plan.
const MaxRank = 1_000_000

// Plan is one version of what an organization may use. A version never changes
// once it is published; a change is a new version.
type Plan struct {
	// Key names the plan in every version: "free".
	Key string `json:"key" yaml:"key"`
	// Version counts up from 1; the highest version of a key is in force.
	Version int `json:"version" yaml:"version"`
	// Name is what people read.
	Name string `json:"name" yaml:"name"`
	// SelfService says that organizations may change to the plan, and from it, by
	// themselves.
	SelfService bool `json:"self_service,omitempty" yaml:"self_service,omitempty"`
	// Rank orders plans, 0 to [MaxRank]: one of a higher rank is an upgrade, which is in
	// force at once; one of the same rank or a lower one waits for the month's end.
	Rank int `json:"rank,omitempty" yaml:"rank,omitempty"`
	// RateLimit bounds the speed of metered requests; zero is none.
	RateLimit RateLimit `json:"rate_limit" yaml:"rate_limit"`
	// Entitlements holds one limit a meter. A meter that a plan doesn't name is
	// unlimited: it is counted and never refused.
	Entitlements []Entitlement `json:"entitlements" yaml:"entitlements"`
	// PriceBooks holds at most one book a currency. A plan without any is free of
	// charge; one with some can be had in their currencies alone.
	PriceBooks []PriceBook `json:"price_books,omitempty" yaml:"price_books,omitempty"`
}

// Entitlement returns the plan's limit of a meter: the one it names, or an
// unlimited one with a window of a day.
func (p Plan) Entitlement(meter string) Entitlement {
	for _, e := range p.Entitlements {
		if e.Meter == meter {
			if e.Window == "" {
				e.Window = calendar.WindowDay
			}
			return e
		}
	}
	return Entitlement{Meter: meter, Mode: Unlimited, Window: calendar.WindowDay}
}
