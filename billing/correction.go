package billing

import (
	"fmt"
	"slices"

	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/money"
)

// Billed is what was billed for one part of a closed period: the lines of its
// statement of that kind and meter, and the corrections of them since then.
type Billed struct {
	Kind  LineKind
	Meter string
	// Outside says so of what was used outside of the contract.
	Outside bool
	Amount  decimal.Decimal
}

// Correct adds what a closed period costs more or less than was billed for it, because
// usage of it arrived after its close: one line for each kind and meter that differs.
// again is that period rated with all usage that is known now. Usage of a meter outside of
// the contract, of which nothing was shown before, is shown at no cost, on a line of its own.
func (s *Statement) Correct(again Statement, billed []Billed) {
	type part struct {
		kind    LineKind
		meter   string
		outside bool
	}
	var order []part
	now, before := map[part]decimal.Decimal{}, map[part]decimal.Decimal{}
	note := func(k part) {
		if !slices.Contains(order, k) {
			order = append(order, k)
		}
	}
	for _, l := range again.Lines {
		if l.Kind == LineCredit || l.Kind == LineCorrection {
			continue
		}
		k := part{l.Kind, l.Meter, l.Outside}
		note(k)
		now[k] = now[k].Add(l.Amount.Decimal)
	}
	for _, b := range billed {
		k := part{b.Kind, b.Meter, b.Outside}
		note(k)
		before[k] = before[k].Add(b.Amount)
	}
	for _, k := range order {
		difference := now[k].Sub(before[k])
		_, shown := before[k]
		if difference.IsZero() && (shown || !k.outside) {
			continue
		}
		period := again.Period
		description := fmt.Sprintf("Correction of %s: %s", again.Period, describe(k.kind, k.meter))
		if k.outside {
			description += ", outside of the contract"
		}
		s.Lines = append(s.Lines, Line{
			Kind: LineCorrection, Meter: k.meter, Corrects: &period,
			Description: description, Start: again.Period.Start(), End: again.Period.End(),
			Basis: fmt.Sprintf("%s now − %s billed", money.Format(now[k], s.Currency), money.Format(before[k], s.Currency)),
			Exact: difference.String(), Rest: "0", Amount: money.NewAmount(difference, s.Currency),
			Corrected: k.kind, Outside: k.outside,
		})
	}
	s.add()
}

func describe(kind LineKind, meter string) string {
	if meter == "" {
		return string(kind)
	}
	return string(kind) + " of " + meter
}

// BilledBy returns what a statement's lines say of each part of its own period.
func (s Statement) BilledBy() []Billed {
	var out []Billed
	for _, l := range s.Lines {
		if l.Kind != LineCredit && l.Kind != LineCorrection {
			out = append(out, Billed{Kind: l.Kind, Meter: l.Meter, Outside: l.Outside, Amount: l.Amount.Decimal})
		}
	}
	return out
}

// CorrectionsOf returns what a statement's corrections say of a closed period.
func (s Statement) CorrectionsOf(p calendar.Period) []Billed {
	var out []Billed
	for _, l := range s.Lines {
		if l.Kind == LineCorrection && l.Corrects != nil && *l.Corrects == p {
			out = append(out, Billed{Kind: l.Corrected, Meter: l.Meter, Outside: l.Outside, Amount: l.Amount.Decimal})
		}
	}
	return out
}

// HasCorrections reports whether the statement corrects closed periods.
func (s Statement) HasCorrections() bool {
	return slices.ContainsFunc(s.Lines, func(l Line) bool { return l.Kind == LineCorrection })
}
