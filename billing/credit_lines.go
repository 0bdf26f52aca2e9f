package billing

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/money"
)

// PayFrom pays what is due from an organization's grants, as they were when its usage was
// frozen, by the rules of [BurnDown] as of the [LastInstant] before the cut. It adds a line for
// each grant that is used; the grants are not changed.
func (s *Statement) PayFrom(grants []CreditGrant, cut time.Time) {
	uses, _ := BurnDown(grants, s.Due.Decimal, s.Currency, LastInstant(cut))
	for _, use := range uses {
		for _, g := range grants {
			if g.ID == use.Grant {
				s.Lines = append(s.Lines, s.creditLine(g, use))
			}
		}
	}
	s.add()
}

func (s *Statement) creditLine(g CreditGrant, use CreditUse) Line {
	description := "Prepaid credit"
	if g.Note != "" {
		description += ": " + g.Note
	}
	amount := money.NewAmount(use.Amount.Neg(), s.Currency)
	return Line{
		Kind: LineCredit, Description: description, Start: s.Period.Start(), End: s.Period.End(), Grant: g.ID,
		Basis: fmt.Sprintf("%s of the %s that remained of the grant", money.Format(use.Amount, s.Currency), money.Format(g.Remaining, s.Currency)),
		Exact: amount.String(), Rest: "0", Amount: amount,
	}
}

// CreditUses returns what the statement takes of grants, in the order of its lines.
func (s Statement) CreditUses() []CreditUse {
	var uses []CreditUse
	for _, l := range s.Lines {
		if l.Kind == LineCredit && l.Grant != uuid.Nil {
			uses = append(uses, CreditUse{Grant: l.Grant, Amount: l.Amount.Neg()})
		}
	}
	return uses
}
