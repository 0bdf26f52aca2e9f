package accounts

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Action is what is to happen to a contract.
type Action string

// The actions.
const (
	// ChangePlan puts a plan in force, at once or later. Choosing the plan in force takes
	// a pending change back; an organization its own.
	ChangePlan Action = "change"
	// KeepPlan takes a pending change back.
	KeepPlan Action = "keep"
	// EndContract ends the contract, at once or later.
	EndContract Action = "end"
	// KeepContract takes a pending end back.
	KeepContract Action = "continue"
)

// An organization may change its contract by itself [MaxTenantChanges] times within
// [TenantChangesWindow], and [MaxTenantChangesMonthly] times within [TenantChangesMonth]: each change
// is a term that the close of its month rates, and a takeover by every instance.
const (
	MaxTenantChanges        = 10
	TenantChangesWindow     = time.Hour
	MaxTenantChangesMonthly = 100
	TenantChangesMonth      = 30 * 24 * time.Hour
)

// MaxNote is the longest note of a change, in characters.
const MaxNote = 2000

// precision is that of the times that stores keep.
const precision = time.Microsecond

// Offer is what a change needs to know of a plan in the catalog.
type Offer struct {
	// SelfService says that organizations may change to the plan, and from it, by
	// themselves.
	SelfService bool
	// Rank orders plans: one of a higher rank is an upgrade.
	Rank int
	// Billable says that the plan can be had in the organization's currency.
	Billable bool
}

// Request is a change of a contract that somebody asks for.
type Request struct {
	Action Action
	// ByTenant says that the organization asks for itself, and no administrator.
	ByTenant bool
	// Plan is the key of the plan to change to.
	Plan string
	// Actor is the API key of whoever asks; [uuid.Nil] where that isn't known.
	Actor uuid.UUID
	// Note says why, at most [MaxNote] characters.
	Note string
	// At is when it is to come into force; zero is at once, or at the month's end where
	// an organization by itself changes to a plan that is no upgrade.
	At time.Time
}

// Facts is what a change is decided by, beside the contract.
type Facts struct {
	// Now is the time, as the store that keeps contracts has it.
	Now time.Time
	// Currency is that of the organization, for messages.
	Currency string
	// Offers are the plans of the catalog by key.
	Offers map[string]Offer
	// FirstTerm says that the term in force is the organization's first.
	FirstTerm bool
	// Used says that the organization has usage.
	Used bool
	// Closed names the first period at or after Request.At that is closed, or is being
	// closed; empty is none.
	Closed string
	// Changes are the times at which the organization changed its contract by itself
	// within [TenantChangesMonth], in order.
	Changes []time.Time
}

// Change returns the contract that a request makes of c; where it changes nothing, c
// itself. What was in force before now stays. A plan that isn't in the catalog is a
// [*fault.FieldError], a change that may not be a [*Refusal].
func (c Contract) Change(r Request, f Facts) (Contract, error) {
	r.At = r.At.UTC().Truncate(precision)
	if r.Action == ChangePlan {
		if _, ok := f.Offers[r.Plan]; !ok {
			return nil, unknownPlan(r.Plan, f)
		}
	}
	changed, err := c.decide(r, f)
	if err != nil {
		return nil, err
	}
	if slices.Equal(c, changed) {
		return c, nil
	}
	return changed, r.pace(f)
}

func (c Contract) decide(r Request, f Facts) (Contract, error) {
	switch {
	case r.ByTenant && !r.At.IsZero():
		return nil, refuse(CodeEffectiveAtNotTaken, "Only administrators may set effective_at: leave it out")
	case r.ByTenant && c.At(f.Now).Plan == "":
		return nil, refuse(CodeContractEnded, "The contract has ended")
	}
	switch r.Action {
	case EndContract:
		return c.end(r, f)
	case KeepContract:
		return c.keepContract(f)
	case KeepPlan:
		return c.keepPlan(r, f)
	}
	if r.ByTenant {
		return c.changeByTenant(r, f)
	}
	return c.changeByAdmin(r, f)
}

// pace bounds how often an organization changes its contract by itself.
func (r Request) pace(f Facts) error {
	if !r.ByTenant {
		return nil
	}
	for _, bound := range [...]struct {
		most   int
		within time.Duration
		word   string
	}{{MaxTenantChanges, TenantChangesWindow, "an hour"}, {MaxTenantChangesMonthly, TenantChangesMonth, "in 30 days"}} {
		if len(f.Changes) < bound.most {
			continue
		}
		// The change that makes room when it has passed.
		if free := f.Changes[len(f.Changes)-bound.most].Add(bound.within).Sub(f.Now); free > 0 {
			return &Refusal{
				Code:       CodeTooManyPlanChanges,
				Message:    fmt.Sprintf("An organization may change its plan %d times %s by itself", bound.most, bound.word),
				RetryAfter: max(free, time.Second),
			}
		}
	}
	return nil
}

// changeByTenant puts an upgrade in force at once, and anything else at the month's end.
func (c Contract) changeByTenant(r Request, f Facts) (Contract, error) {
	current := c.At(f.Now)
	if r.Plan == current.Plan {
		return c.without(f.Now, isTenants), nil
	}
	from, to := f.Offers[current.Plan], f.Offers[r.Plan]
	switch {
	case !from.SelfService:
		return nil, refuse(CodeLeavesNoSelfService, "Plan %s is by agreement: ask an administrator to change it", current.Plan)
	case !to.SelfService:
		return nil, refuse(CodePlanNotSelfService, "Plan %s is by agreement: ask an administrator for it", r.Plan)
	case !to.Billable:
		return nil, withoutCurrency(r.Plan, f)
	}
	upgrade := to.Rank > from.Rank
	for _, t := range c.Pending(f.Now) {
		switch {
		case t.Plan == "" && !upgrade && !t.From.After(monthEnd(f.Now)):
			return nil, refuse(CodeContractEnds, "The contract ends at %s, before the change would come into force", instant(t.From))
		case t.Plan != "" && !t.ByTenant && !upgrade:
			return nil, scheduledByAdmin(t)
		}
	}
	if upgrade {
		return c.put(f.Now, Term{From: c.next(f.Now), Plan: r.Plan, ByTenant: true}, isTenants), nil
	}
	return c.put(f.Now, Term{From: monthEnd(f.Now), Plan: r.Plan, ByTenant: true}, isPlan), nil
}

// changeByAdmin puts any plan in force, at once or at a time that is to come. After the
// end of a contract it begins a new one. The first plan may be dated back.
func (c Contract) changeByAdmin(r Request, f Facts) (Contract, error) {
	current := c.At(f.Now)
	if !f.Offers[r.Plan].Billable {
		return nil, withoutCurrency(r.Plan, f)
	}
	if !r.At.IsZero() && r.At.Before(f.Now) {
		return c.backdate(r, f)
	}
	at := r.At
	if at.IsZero() || !at.After(current.From) {
		at = c.next(f.Now)
	}
	for _, t := range c.Pending(f.Now) {
		if t.Plan == "" && !at.Before(t.From) {
			return nil, refuse(CodeContractEnds, "The contract ends at %s: take the end back first", instant(t.From))
		}
	}
	if r.Plan == current.Plan {
		return c.keepPlan(r, f)
	}
	return c.put(f.Now, Term{From: at, Plan: r.Plan}, isPlan), nil
}

// backdate moves the begin of the first plan to a time that is past. Where that plan is
// pending, another one may take its place: it has never been in force.
func (c Contract) backdate(r Request, f Facts) (Contract, error) {
	current, begun := c.At(f.Now), c.begun(f.Now) > 0
	if r.At.Equal(current.From) && r.Plan == current.Plan {
		return c, nil
	}
	switch {
	case begun && (!f.FirstTerm || r.Plan != current.Plan || r.At.After(current.From)):
		return nil, refuse(CodeEffectiveAtPast, "effective_at must not be past (it is %s): only an organization's first plan may be dated back", instant(r.At))
	case f.Used:
		return nil, refuse(CodeOrganizationHasUsage, "effective_at must not be past (it is %s): the organization has usage, so that its first plan stays as it is", instant(r.At))
	}
	if err := checkOpen(r.At, f); err != nil {
		return nil, err
	}
	if !begun {
		return c.put(f.Now, Term{From: r.At, Plan: r.Plan}, isPlan), nil
	}
	changed := slices.Clone(c)
	for i := range changed {
		if changed[i] == current {
			changed[i].From = r.At
		}
	}
	return changed, nil
}

// NewContract is the contract of a new organization: it has a plan from a time on; zero is
// from now on. Errors are those of [Contract.Change].
func NewContract(plan string, at time.Time, f Facts) (Contract, error) {
	if _, ok := f.Offers[plan]; !ok {
		return nil, unknownPlan(plan, f)
	}
	if !f.Offers[plan].Billable {
		return nil, withoutCurrency(plan, f)
	}
	if at.IsZero() {
		at = f.Now
	}
	at = at.UTC().Truncate(precision)
	return Contract{{From: at, Plan: plan}}, checkOpen(at, f)
}

// CheckCurrency holds that all plans of a contract can be had in the organization's
// currency. What is in force and pending counts; the caller leaves what is over out.
func (c Contract) CheckCurrency(f Facts) error {
	for _, t := range c {
		if t.Plan != "" && !f.Offers[t.Plan].Billable {
			return withoutCurrency(t.Plan, f)
		}
	}
	return nil
}

// checkOpen holds that a first plan begins in no closed period.
func checkOpen(at time.Time, f Facts) error {
	if at.Before(f.Now) && f.Closed != "" {
		return refuse(CodePeriodClosed, "effective_at must be in no period that is closed or being closed: %s is", f.Closed)
	}
	return nil
}

// end ends the contract at once or at a time that is to come, and drops what would come
// after it.
func (c Contract) end(r Request, f Facts) (Contract, error) {
	current := c.At(f.Now)
	if !r.At.IsZero() && r.At.Before(f.Now) {
		return nil, refuse(CodeEffectiveAtPast, "effective_at must not be past, it is %s", instant(r.At))
	}
	if current.Plan == "" && !current.From.IsZero() {
		return c.without(f.Now, func(Term) bool { return true }), nil
	}
	at := r.At
	if at.IsZero() || !at.After(current.From) {
		at = c.next(f.Now)
	}
	return c.put(f.Now, Term{From: at}, func(t Term) bool { return t.Plan == "" || !t.From.Before(at) }), nil
}

// keepContract takes a pending end back.
func (c Contract) keepContract(f Facts) (Contract, error) {
	current := c.At(f.Now)
	if current.Plan == "" && !current.From.IsZero() {
		return nil, refuse(CodeContractEnded, "The contract ended at %s: choose a plan to begin a new one", instant(current.From))
	}
	return c.without(f.Now, func(t Term) bool { return t.Plan == "" }), nil
}

// keepPlan takes a pending change of plan back. An organization takes back what it has
// asked for by itself.
func (c Contract) keepPlan(r Request, f Facts) (Contract, error) {
	for _, t := range c.Pending(f.Now) {
		if isPlan(t) && r.ByTenant && !t.ByTenant {
			return nil, scheduledByAdmin(t)
		}
	}
	if c.begun(f.Now) == 0 {
		// What is pending is the first plan.
		return c, nil
	}
	return c.without(f.Now, isPlan), nil
}

// put adds a term, in the place of the pending ones that match.
func (c Contract) put(now time.Time, term Term, replaced func(Term) bool) Contract {
	changed := c.without(now, func(t Term) bool { return replaced(t) || t.From.Equal(term.From) })
	changed = append(changed, term)
	slices.SortFunc(changed, func(a, b Term) int { return a.From.Compare(b.From) })
	// What is pending is another plan than the one before it, or says nothing.
	out := changed[:0]
	for i, t := range changed {
		if i == 0 || !t.From.After(now) || t.Plan != out[len(out)-1].Plan {
			out = append(out, t)
		}
	}
	return out
}

// without drops the pending terms that match.
func (c Contract) without(now time.Time, drop func(Term) bool) Contract {
	changed := slices.Clone(c[:c.begun(now)])
	for _, t := range c.Pending(now) {
		if !drop(t) {
			changed = append(changed, t)
		}
	}
	return changed
}

// next is the earliest time from now on at which a term may begin: two changes are in the
// order in which they came about, whatever the clock does.
func (c Contract) next(now time.Time) time.Time {
	now = now.UTC().Truncate(precision)
	if current := c.At(now); !now.After(current.From) {
		return current.From.Add(precision)
	}
	return now
}

func isPlan(t Term) bool    { return t.Plan != "" }
func isTenants(t Term) bool { return t.Plan != "" && t.ByTenant }

// monthEnd is the end of the billing month of a time: UTC.
func monthEnd(at time.Time) time.Time {
	at = at.UTC()
	return time.Date(at.Year(), at.Month()+1, 1, 0, 0, 0, 0, time.UTC)
}

func instant(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }
