package billing

import (
	"errors"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

// BilledPeriod is a frozen period of an organization and what it was billed for it.
type BilledPeriod struct {
	OrganizationPeriod OrganizationPeriod
	// Billed is the sum of base fees, usage, discounts and minimums: neither corrections of
	// other periods nor credits. Nil: there is no statement, as the organization was parked.
	Billed *money.Amount
}

// Own returns what a statement charges for its own period: its sum without corrections
// and credits.
func (s Statement) Own() money.Amount {
	sum := decimal.Zero
	for _, b := range s.BilledBy() {
		sum = sum.Add(b.Amount)
	}
	return money.NewAmount(sum, s.Currency)
}

// DryRunConfig is what a [DryRun] is made from.
type DryRunConfig struct {
	// Published is the catalog with all versions of its plans. Required.
	Published *plans.Catalog
	// Proposed has the plans that are tried. Required.
	Proposed *plans.Catalog
}

// DryRun rates past usage under a proposed catalog. It is safe for concurrent use.
type DryRun struct {
	proposed *plans.Catalog
	// all has the proposed plans, and the published ones for plans that aren't proposed.
	all *plans.Catalog
}

// NewDryRun makes a dry run. A proposed catalog that breaks a rule is [plans.ErrInvalidCatalog].
func NewDryRun(config DryRunConfig) (*DryRun, error) {
	proposed, err := config.Published.Propose(config.Proposed)
	if err != nil {
		return nil, err
	}
	return &DryRun{proposed: proposed, all: config.Published.Overlay(proposed)}, nil
}

// DryRunOrganization says what one organization was billed, and what it would have been.
type DryRunOrganization struct {
	Organization     uuid.UUID `json:"organization_id"`
	OrganizationName string    `json:"organization_name"`
	// Plans are the keys of its plans in the period, each once, in the order of time.
	Plans []string `json:"plans"`
	// KeptPlans are those of Plans that the proposed catalog doesn't name: they are rated
	// at their old prices.
	KeptPlans []string       `json:"kept_plans,omitempty"`
	Currency  money.Currency `json:"currency"`
	// Billed and Proposed are sums without corrections and credits. Nil: it wasn't billed;
	// it can't be rated under the proposed catalog.
	Billed   *money.Amount `json:"billed,omitempty"`
	Proposed *money.Amount `json:"proposed,omitempty"`
	// Difference is Proposed − Billed, where there are both.
	Difference *money.Amount `json:"difference,omitempty"`
	// Percent is the difference relative to Billed, to one decimal, half away from zero;
	// empty where there is none, or Billed is zero.
	Percent string `json:"percent,omitempty"`
	// Reason says why there is no difference; empty where there is one.
	Reason string `json:"reason,omitempty"`
}

// reasonNotBilled is that of an organization that was parked in the export.
const reasonNotBilled = "was not billed: it was parked"

// Rate rates the period of one organization. What can't be rated has a reason; it is no error.
func (d *DryRun) Rate(b BilledPeriod) (DryRunOrganization, error) {
	a := b.OrganizationPeriod
	out := DryRunOrganization{Organization: a.Organization, OrganizationName: a.OrganizationName, Plans: []string{}, Currency: a.Currency, Billed: b.Billed}
	for _, s := range a.Segments {
		if s.Plan.Key == "" || slices.Contains(out.Plans, s.Plan.Key) {
			continue
		}
		out.Plans = append(out.Plans, s.Plan.Key)
		if _, named := d.proposed.Plan(s.Plan.Key); !named {
			out.KeptPlans = append(out.KeptPlans, s.Plan.Key)
		}
	}
	statement, err := Rate(Ratable{OrganizationPeriod: a.Under(d.proposed)}, d.all)
	switch {
	case errors.Is(err, ErrCannotRate):
		out.Reason = err.Error()
		return out, nil
	case err != nil:
		return out, err
	}
	out.Proposed = &statement.Subtotal
	if b.Billed == nil {
		out.Reason = reasonNotBilled
		return out, nil
	}
	difference := money.NewAmount(out.Proposed.Sub(b.Billed.Decimal), a.Currency)
	out.Difference, out.Percent = &difference, percentOf(difference.Decimal, b.Billed.Decimal)
	return out, nil
}

// percentOf returns a part of a whole in percent, to one decimal; empty where the whole is zero.
func percentOf(part, whole decimal.Decimal) string {
	if whole.IsZero() {
		return ""
	}
	return part.Shift(2).DivRound(whole.Abs(), 1).StringFixed(1)
}

// DryRunTotals adds up what a dry run found. The zero value is of none.
type DryRunTotals struct {
	// Organizations = Compared + Unrated + Unbilled.
	Organizations int64 `json:"organizations"`
	// Compared have a difference, which may be zero.
	Compared int64 `json:"compared"`
	// Unrated can't be rated under the proposed catalog.
	Unrated int64 `json:"unrated"`
	// Unbilled can, but were not billed.
	Unbilled int64 `json:"unbilled"`
	// Kept have a plan that the proposed catalog doesn't name; KeptPlans are these plans,
	// sorted.
	Kept      int64    `json:"kept"`
	KeptPlans []string `json:"kept_plans"`
	// Money adds up those that were compared, in the order of the currency.
	Money []DryRunMoney `json:"money"`
}

// DryRunMoney adds up the compared organizations of one currency.
type DryRunMoney struct {
	Currency      money.Currency `json:"currency"`
	Organizations int64          `json:"organizations"`
	// Higher, Lower and Same count those that would pay more, less, or the same.
	Higher int64 `json:"higher"`
	Lower  int64 `json:"lower"`
	Same   int64 `json:"same"`
	// Difference is Proposed − Billed; Percent is as in [DryRunOrganization].
	Billed     money.Amount `json:"billed"`
	Proposed   money.Amount `json:"proposed"`
	Difference money.Amount `json:"difference"`
	Percent    string       `json:"percent,omitempty"`
}

// Add counts one organization.
func (t *DryRunTotals) Add(o DryRunOrganization) {
	t.Organizations++
	if len(o.KeptPlans) > 0 {
		t.Kept++
	}
	for _, key := range o.KeptPlans {
		if at, found := slices.BinarySearch(t.KeptPlans, key); !found {
			t.KeptPlans = slices.Insert(t.KeptPlans, at, key)
		}
	}
	switch {
	case o.Proposed == nil:
		t.Unrated++
		return
	case o.Difference == nil:
		t.Unbilled++
		return
	}
	t.Compared++
	at, found := slices.BinarySearchFunc(t.Money, o.Currency, func(m DryRunMoney, c money.Currency) int {
		return strings.Compare(string(m.Currency), string(c))
	})
	if !found {
		t.Money = slices.Insert(t.Money, at, DryRunMoney{Currency: o.Currency})
	}
	t.Money[at].add(o)
}

func (m *DryRunMoney) add(o DryRunOrganization) {
	m.Organizations++
	switch o.Difference.Sign() {
	case 1:
		m.Higher++
	case -1:
		m.Lower++
	default:
		m.Same++
	}
	m.Billed = money.NewAmount(m.Billed.Add(o.Billed.Decimal), m.Currency)
	m.Proposed = money.NewAmount(m.Proposed.Add(o.Proposed.Decimal), m.Currency)
	m.Difference = money.NewAmount(m.Proposed.Sub(m.Billed.Decimal), m.Currency)
	m.Percent = percentOf(m.Difference.Decimal, m.Billed.Decimal)
}
