package web

import (
	"slices"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/plans"
)

// planPage shows the plan, what another one changes, and what a 402 means.
type planPage struct {
	Organization accounts.Organization
	Meters       []meterView
	Plans        []gen.Plan
	// Now is the plan in force; its key is empty where there is none.
	Now gen.Plan
	// With is the plan that is compared; its key is empty where none is.
	With gen.Plan
	// Bill is the month's with the plan in force, Other that with the one compared.
	Bill  gen.Bill
	Other gen.Bill
	// Refusal says why a change was refused.
	Refusal string
}

// Refused are the meters of which nothing is left.
func (p planPage) Refused() []meterView { return refused(p.Meters) }

// Others are the plans that can be compared.
func (p planPage) Others() []gen.Plan {
	return slices.DeleteFunc(slices.Clone(p.Plans), func(o gen.Plan) bool { return o.Key == p.Now.Key })
}

// Upgrade says that the plan compared comes into force at once.
func (p planPage) Upgrade() bool { return p.With.Rank > p.Now.Rank }

// Difference is what the month comes to with the plan compared, less what it comes to as it is.
func (p planPage) Difference() signedMoney {
	now, other := p.Bill.Expected.Statement, p.Other.Expected.Statement
	return difference(other.Subtotal, now.Subtotal, now.Currency)
}

// limits are the entitlements of one meter, of the plan in force and of the one compared.
type limits struct {
	Meter     meterView
	Now, With entitlementView
}

// entitlementView is a limit in words.
type entitlementView struct {
	gen.Entitlement
	Unit string
	// Exceeded says that the current window is beyond it already.
	Exceeded bool
}

// Limited says that there is one.
func (e entitlementView) Limited() bool { return e.Max != nil && e.Mode != plans.Unlimited }

// Most is the limit.
func (e entitlementView) Most() int64 { return *e.Max }

// Limits are those of each meter.
func (p planPage) Limits() []limits {
	of := func(plan gen.Plan, m meterView) entitlementView {
		out := entitlementView{Unit: m.Unit, Entitlement: gen.Entitlement{Mode: plans.Unlimited}}
		for _, e := range plan.Entitlements {
			if e.Meter == m.Meter {
				out.Entitlement = e
			}
		}
		out.Exceeded = out.Limited() && m.Current > out.Most()
		return out
	}
	out := make([]limits, len(p.Meters))
	for i, m := range p.Meters {
		out[i] = limits{m, of(p.Now, m), of(p.With, m)}
	}
	return out
}

func (v *visit) planPage(with string) (planPage, error) {
	var p planPage
	err := v.get(&p.Organization, v.own(""))
	if err != nil {
		return p, err
	}
	var catalog gen.Catalog
	if p.Meters, catalog, err = v.meters(); err != nil {
		return p, err
	}
	p.Plans = catalog.Plans
	for _, one := range p.Plans {
		switch one.Key {
		case p.Organization.Plan:
			p.Now = one
		case with:
			p.With = one
		}
	}
	if p.With.Key == "" {
		return p, nil
	}
	if err := v.get(&p.Bill, v.own("/bill")); err != nil {
		return p, err
	}
	return p, v.get(&p.Other, v.own("/bill"), "plan", p.With.Key)
}

func (v *visit) plan() error {
	p, err := v.planPage(v.r.URL.Query().Get("with"))
	if err != nil {
		return err
	}
	return v.page("plan", p)
}

func (v *visit) changePlan() error {
	var changed accounts.Organization
	wanted := v.r.PostFormValue("plan")
	err := v.send("POST", v.own("/upgrade"), gen.Upgrade{Plan: wanted}, &changed)
	if refused, ok := refusal(err); ok {
		p, err := v.planPage(wanted)
		if err != nil {
			return err
		}
		p.Refusal = refused.Message
		return v.show(refused.Status, "plan", p)
	}
	if err != nil {
		return err
	}
	if changed.Plan == wanted {
		return v.redirect("/plan?done=plan")
	}
	return v.redirect("/plan?done=pending")
}

func (v *visit) keepPlan() error {
	if err := v.send("DELETE", v.own("/upgrade"), nil, nil); err != nil {
		return err
	}
	return v.redirect("/plan?done=kept")
}
