package plans

import (
	"fmt"
	"strings"

	"github.com/shopspring/decimal"
)

// Explain returns the arithmetic of a charge in lines that a person can check with
// pencil and paper: what was included, and each tier, package or fee.
func (c Charge) Explain(unit string) []string {
	var lines []string
	if c.Included.IsPositive() {
		lines = append(lines, fmt.Sprintf("%s used − %s included = %s", Grouped(c.Quantity), Grouped(c.Included), counted(c.Billed, unit)))
	} else {
		lines = append(lines, counted(c.Quantity, unit)+" used")
	}
	for _, p := range c.Parts {
		lines = append(lines, p.explain())
	}
	if !c.Share.Whole() {
		lines = append(lines, fmt.Sprintf("for %d of %d days: × %d/%d", c.Share.Days, c.Share.Of, c.Share.Days, c.Share.Of))
	}
	return lines
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
