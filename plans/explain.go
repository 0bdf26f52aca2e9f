package plans

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/money"
)

// Explain returns the arithmetic of a charge in lines that a person can check with
// pencil and paper: what was used, before and now, what was included, and each tier,
// package or fee.
func (c Charge) Explain(unit string) []string {
	var lines []string
	if c.Seconds > 0 {
		lines = append(lines, fmt.Sprintf("average: %s %s-seconds / %s seconds = %s",
			Grouped(c.UnitSeconds), cmp.Or(unit, "unit"), Grouped(decimal.NewFromInt(c.Seconds)), Grouped(c.Quantity)))
	}
	if len(c.Pool) > 0 {
		lines = append(lines, c.explainPool())
	}
	lines = append(lines, c.explainUse(unit))
	if c.Total.IsPositive() {
		lines = append(lines, fmt.Sprintf("the plan's %s in all choose the tier", counted(c.Total, unit)))
	}
	for _, p := range c.Parts {
		lines = append(lines, p.explain())
	}
	if !c.Share.Whole() {
		lines = append(lines, c.Share.Explain())
	}
	return lines
}

// explainUse says what was used, and what of it is billed.
func (c Charge) explainUse(unit string) string {
	after := ""
	if c.Before.IsPositive() {
		after = " after " + Grouped(c.Before)
		if c.PoolBefore.IsPositive() {
			after += " (" + Grouped(c.PoolBefore) + " of them included)"
		}
	}
	if !c.Included.IsPositive() {
		return counted(c.Quantity, unit) + " used" + after
	}
	return fmt.Sprintf("%s used%s − %s included = %s", Grouped(c.Quantity), after, Grouped(c.Included), counted(c.Billed, unit))
}

func (c Charge) explainPool() string {
	var terms []string
	var sum money.Fraction
	for _, p := range c.Pool {
		included := decimal.NewFromInt(p.Included)
		terms = append(terms, Grouped(included)+" × "+p.Share.String())
		sum = sum.Add(p.Share.Apply(money.Whole(included)))
	}
	line := fmt.Sprintf("included: %s = %s", strings.Join(terms, " + "), Grouped(sum.Decimal(ShownDecimals)))
	if c.Seconds == 0 && !sum.IsWhole() {
		line += ", down to " + Grouped(sum.Floor().Decimal(0))
	}
	return line
}

func (p Part) explain() string {
	if p.To.IsZero() {
		return "flat fee " + p.FlatFee.String()
	}
	reach := Grouped(p.From) + "–" + Grouped(p.To)
	if p.From.Equal(p.To) {
		reach = Grouped(p.From)
	}
	price := Grouped(p.Quantity) + " × " + p.UnitPrice.String()
	if p.Per > 1 {
		price += " / " + Grouped(decimal.NewFromInt(p.Per))
	}
	if p.FlatFee.IsPositive() {
		price += " + " + p.FlatFee.String()
	}
	return fmt.Sprintf("%s: %s = %s", reach, price, p.Amount)
}

func counted(quantity decimal.Decimal, unit string) string {
	return strings.TrimSpace(Grouped(quantity) + " " + unit)
}

// Grouped writes a number with commas between its thousands: "1,234,567.5".
func Grouped(d decimal.Decimal) string {
	text := d.String()
	sign := ""
	if strings.HasPrefix(text, "-") {
		sign, text = "-", text[1:]
	}
	whole, decimals, _ := strings.Cut(text, ".")
	var out strings.Builder
	out.WriteString(sign)
	for i, digit := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			out.WriteByte(',')
		}
		out.WriteRune(digit)
	}
	if decimals != "" {
		out.WriteString("." + decimals)
	}
	return out.String()
}
