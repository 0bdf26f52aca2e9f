package billing

import (
	"slices"

	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

// claim is a plan that was in force on a day, with the last of its parts there.
type claim struct {
	plan *planPeriod
	part int
}

// giveDays gives each day under contract to one part of one plan: to the plan with the
// highest standing price of those that were in force on it at any instant, of equal ones
// to the later, and there to the part that was in force last. Peaks and levels of a
// segment within one day go with the day.
func giveDays(o OrganizationPeriod, byKey map[string]*planPeriod) {
	first := o.Period.FirstDay()
	claims := make([][]claim, o.Period.LastDay()-first+1)
	parts := map[*planPeriod]int{}
	for _, s := range o.Segments {
		plan := byKey[s.Plan.Key]
		if plan == nil {
			continue
		}
		from, to := s.days()
		for day := from; day <= to; day++ {
			of := &claims[day-first]
			*of = append(slices.DeleteFunc(*of, func(c claim) bool { return c.plan == plan }), claim{plan, parts[plan]})
		}
		parts[plan]++
	}
	owners := make([]*planPeriod, len(claims))
	for day, of := range claims {
		if len(of) > 0 {
			owner := highest(of)
			owner.plan.parts[owner.part].days++
			owners[day] = owner.plan
		}
	}
	for _, s := range o.Segments {
		plan := byKey[s.Plan.Key]
		if plan == nil {
			continue
		}
		if from, to := s.days(); from == to {
			plan = owners[from-first]
		}
		plan.holds = append(plan.holds, s)
	}
}

// highest returns the claim with the highest standing price, the last of equal ones.
func highest(claims []claim) claim {
	if len(claims) == 1 {
		return claims[0]
	}
	var best claim
	var price money.Fraction
	for _, c := range claims {
		if standing := c.plan.standingPrice(c.part); best.plan == nil || standing.Cmp(price) >= 0 {
			best, price = c, standing
		}
	}
	return best
}

// standingPrice returns what the terms of a part that are prorated by the day cost in a
// whole month without usage: the base fee and the meters' minimums less the discount, at
// least the plan's minimum.
func (p *planPeriod) standingPrice(i int) money.Fraction {
	book := p.parts[i].book
	sum := decimal.Zero
	if p.baseFeeProration() == plans.ProrateDay {
		sum = sum.Add(book.BaseFee.Amount)
	}
	for _, m := range p.whole.Meters {
		if price, ok := book.Price(m.Key); ok && p.meterProration(m.Key) == plans.ProrateDay {
			sum = sum.Add(price.Minimum)
		}
	}
	rest := sum.Mul(decimal.NewFromInt(100).Sub(book.DiscountPercent)).Shift(-2)
	if p.minimumProration() == plans.ProrateDay {
		rest = decimal.Max(rest, book.Minimum)
	}
	return money.Whole(rest)
}
