package accounts

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/riverline/tollgate/fault"
)

// Codes of refusals: they never change, since callers tell refusals apart by them.
const (
	CodeContractEnded        = "contract_ended"
	CodeContractEnds         = "contract_ends"
	CodePlanNotSelfService   = "plan_not_self_service"
	CodeLeavesNoSelfService  = "current_plan_not_self_service"
	CodeEffectiveAtNotTaken  = "effective_at_not_allowed"
	CodeEffectiveAtPast      = "effective_at_in_the_past"
	CodeScheduledByAdmin     = "scheduled_by_administrator"
	CodePlanWithoutCurrency  = "plan_without_currency"
	CodePeriodClosed         = "period_closed"
	CodeOrganizationHasUsage = "organization_has_usage"
	CodeTooManyPlanChanges   = "too_many_plan_changes"
)

// Refusal is a change of a contract that may not be.
type Refusal struct {
	// Code says why, for programs: one of the Code constants.
	Code string
	// Message says why, for people, and what may be instead.
	Message string
	// RetryAfter is when it may be tried again; zero where time changes nothing.
	RetryAfter time.Duration
}

// Error returns the message.
func (r *Refusal) Error() string { return r.Message }

// refuse is a [*Refusal] as an error.
func refuse(code, message string, args ...any) error {
	return &Refusal{Code: code, Message: fmt.Sprintf(message, args...)}
}

func unknownPlan(plan string, f Facts) error {
	known := strings.Join(slices.Sorted(maps.Keys(f.Offers)), ", ")
	return &fault.FieldError{Field: "plan", Rule: fmt.Sprintf("must be a plan of the catalog (%s), %q is not", known, plan)}
}

func withoutCurrency(plan string, f Facts) error {
	return refuse(CodePlanWithoutCurrency, "Plan %s has no prices in %s, the organization's currency", plan, f.Currency)
}

func scheduledByAdmin(t Term) error {
	return refuse(CodeScheduledByAdmin, "An administrator has set a change to plan %s at %s: ask an administrator", t.Plan, instant(t.From))
}
