package accounts

import (
	"slices"
	"time"
)

// Term is a plan that an organization has from a time on, until the next term.
type Term struct {
	// From is UTC, to the microsecond.
	From time.Time
	// Plan is the plan's key; empty is no contract.
	Plan string
	// ByTenant says that the organization changed its plan by itself.
	ByTenant bool
}

// Contract is the terms of an organization in order, each from another time. The last one
// at or before a time is in force then; those after it are pending.
type Contract []Term

// At returns the term that is in force at a time. Before the first one it is the zero
// term, without a plan.
func (c Contract) At(at time.Time) Term {
	for _, t := range slices.Backward(c) {
		if !t.From.After(at) {
			return t
		}
	}
	return Term{}
}

// Pending returns the terms that come into force after a time.
func (c Contract) Pending(at time.Time) Contract { return c[c.begun(at):] }

// begun returns how many terms have come into force.
func (c Contract) begun(at time.Time) int {
	first := slices.IndexFunc(c, func(t Term) bool { return t.From.After(at) })
	if first < 0 {
		return len(c)
	}
	return first
}

// Standing is whether an organization is under contract.
type Standing struct {
	// Active says so for the time at which it was found out.
	Active bool
	// TurnsAt is when that changes; zero where it does not.
	TurnsAt time.Time
}

// Standing returns whether there is a contract at a time, and until when.
func (c Contract) Standing(at time.Time) Standing {
	s := Standing{Active: c.At(at).Plan != ""}
	for _, t := range c.Pending(at) {
		if (t.Plan != "") != s.Active {
			s.TurnsAt = t.From
			break
		}
	}
	return s
}

// ActiveAt reports whether there is a contract at a time that isn't before the one at
// which the standing was found out.
func (s Standing) ActiveAt(at time.Time) bool {
	if s.TurnsAt.IsZero() || at.Before(s.TurnsAt) {
		return s.Active
	}
	return !s.Active
}

// Describe says in an organization what its contract is at a time.
func (c Contract) Describe(o *Organization, at time.Time) {
	current := c.At(at)
	o.Plan, o.PendingPlan, o.PendingFrom, o.EndsAt = current.Plan, "", nil, nil
	if current.Plan == "" && !current.From.IsZero() {
		ended := current.From.UTC()
		o.EndsAt = &ended
	}
	for _, t := range c.Pending(at) {
		from := t.From.UTC()
		switch {
		case t.Plan == "":
			o.EndsAt = &from
		case o.PendingFrom == nil:
			o.PendingPlan, o.PendingFrom = t.Plan, &from
		}
	}
}
