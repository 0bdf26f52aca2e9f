package accounts

import (
	"slices"
	"time"
)

// Term is a plan that an organization has from a time on, until the next term.
type Term struct {
	From time.Time
	// Plan is the plan's key; empty is no contract.
	Plan string
	// ByTenant says that the organization changed its plan by itself.
	ByTenant bool
}

// Contract is the terms of an organization in order. The last one at or before a time is
// in force then; those to come are pending.
type Contract []Term

// At returns the term that is in force at a time. Before the first one it is a term
// without a plan.
func (c Contract) At(at time.Time) Term {
	for _, t := range slices.Backward(c) {
		if !t.From.After(at) {
			return t
		}
	}
	return Term{}
}

// Pending returns the terms that come into force after a time.
func (c Contract) Pending(at time.Time) Contract {
	first := slices.IndexFunc(c, func(t Term) bool { return t.From.After(at) })
	if first < 0 {
		return nil
	}
	return c[first:]
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
