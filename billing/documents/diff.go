package documents

import (
	"github.com/riverline/tollgate/billing"

	"bytes"
	"iter"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/money"
)

// StatementDifference is what differs between two revisions for one organization.
type StatementDifference struct {
	Organization     uuid.UUID      `json:"organization_id"`
	OrganizationName string         `json:"organization_name"`
	Currency         money.Currency `json:"currency"`
	// Before and After are what is due; a statement that isn't there has none.
	Before *money.Amount `json:"before,omitempty"`
	After  *money.Amount `json:"after,omitempty"`
	// Lines are the lines that differ.
	Lines []LineDifference `json:"lines"`
}

// LineDifference is a line that differs, and its arithmetic on both sides: it says why.
type LineDifference struct {
	Description string `json:"description"`
	// Before and After are amounts; empty where the line isn't there.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	// WhyBefore and WhyAfter are the steps of [billing.Line.Explain].
	WhyBefore []string `json:"why_before,omitempty"`
	WhyAfter  []string `json:"why_after,omitempty"`
}

// Diff compares two files of statements, both in the order of the organization, and
// yields each organization whose amounts or lines differ. It holds one statement of
// each at a time.
func Diff(before, after iter.Seq2[billing.Statement, error]) iter.Seq2[StatementDifference, error] {
	return func(yield func(StatementDifference, error) bool) {
		nextBefore, stopBefore := iter.Pull2(before)
		defer stopBefore()
		nextAfter, stopAfter := iter.Pull2(after)
		defer stopAfter()
		a, errA, okA := nextBefore()
		b, errB, okB := nextAfter()
		for okA || okB {
			for _, err := range []error{errA, errB} {
				if err != nil {
					yield(StatementDifference{}, err)
					return
				}
			}
			var order int
			switch {
			case !okB:
				order = -1
			case !okA:
				order = 1
			default:
				order = bytes.Compare(a.Organization[:], b.Organization[:])
			}
			var left, right *billing.Statement
			if order <= 0 {
				one := a
				left = &one
				a, errA, okA = nextBefore()
			}
			if order >= 0 {
				one := b
				right = &one
				b, errB, okB = nextAfter()
			}
			if d, differs := compare(left, right); differs && !yield(d, nil) {
				return
			}
		}
	}
}

// lineKey is what makes two lines the same one.
type lineKey struct {
	kind, corrected   billing.LineKind
	meter, plan       string
	start             string
	description, from string
	grant             uuid.UUID
}

func keyOf(l billing.Line) lineKey {
	k := lineKey{kind: l.Kind, corrected: l.Corrected, meter: l.Meter, plan: l.Plan, start: l.Start.String(), description: l.Description, grant: l.Grant}
	if l.Corrects != nil {
		k.from = l.Corrects.String()
	}
	return k
}

// compare returns what differs; either statement may be missing.
func compare(a, b *billing.Statement) (StatementDifference, bool) {
	var d StatementDifference
	lines := map[lineKey][2]*billing.Line{}
	var order []lineKey
	for side, s := range []*billing.Statement{a, b} {
		if s == nil {
			continue
		}
		d.Organization, d.OrganizationName, d.Currency = s.Organization, s.OrganizationName, s.Currency
		due := s.Due
		if side == 0 {
			d.Before = &due
		} else {
			d.After = &due
		}
		for i := range s.Lines {
			k := keyOf(s.Lines[i])
			pair, known := lines[k]
			if !known {
				order = append(order, k)
			}
			pair[side] = &s.Lines[i]
			lines[k] = pair
		}
	}
	for _, k := range order {
		if one, differs := compareLines(d.Currency, k, lines[k]); differs {
			d.Lines = append(d.Lines, one)
		}
	}
	return d, len(d.Lines) > 0 || d.Before == nil || d.After == nil || !d.Before.Equal(d.After.Decimal)
}

func compareLines(c money.Currency, k lineKey, pair [2]*billing.Line) (LineDifference, bool) {
	out := LineDifference{Description: k.description}
	if pair[0] != nil && pair[1] != nil && pair[0].Exact == pair[1].Exact && pair[0].Amount.Equal(pair[1].Amount.Decimal) {
		return out, false
	}
	if pair[0] != nil {
		out.Before, out.WhyBefore = pair[0].Amount.String(), pair[0].Explain(c)
	}
	if pair[1] != nil {
		out.After, out.WhyAfter = pair[1].Amount.String(), pair[1].Explain(c)
	}
	return out, true
}

// Change returns what is due after less what was due before.
func (d StatementDifference) Change() decimal.Decimal {
	sum := decimal.Zero
	if d.After != nil {
		sum = sum.Add(d.After.Decimal)
	}
	if d.Before != nil {
		sum = sum.Sub(d.Before.Decimal)
	}
	return sum
}
