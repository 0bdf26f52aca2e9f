package web

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/money"
)

// number writes a whole number with its thousands apart.
func number(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if digits[0] == '-' {
		sign, digits = "−", digits[1:]
	}
	return sign + grouped(digits)
}

func grouped(digits string) string {
	var out strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			out.WriteByte(',')
		}
		out.WriteRune(d)
	}
	return out.String()
}

// quantity writes a quantity without its unit; bytes with it, in the largest one of which there is a whole.
func quantity(n int64, unit string) string {
	if unit != byteUnit {
		return number(n)
	}
	size, name := scaled(n)
	return strings.TrimSuffix(strings.TrimRight(strconv.FormatFloat(size, 'f', 2, 64), "0"), ".") + " " + name
}

const (
	byteUnit = "byte"
	kibi     = 1024
)

func scaled(n int64) (float64, string) {
	size, names := float64(n), []string{"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	for size >= kibi && len(names) > 1 {
		size, names = size/kibi, names[1:]
	}
	return size, names[0]
}

// plural is the unit of a quantity; empty where [quantity] has said it.
func plural(n int64, unit string) string {
	switch {
	case unit == byteUnit:
		return ""
	case n == 1 || unit == "" || strings.HasSuffix(unit, "s") || strings.ToLower(unit) != unit:
		return unit
	default:
		return unit + "s"
	}
}

// amount writes money with its thousands apart and its currency.
func amount(a money.Amount, c money.Currency) string {
	text := a.String()
	sign := ""
	if strings.HasPrefix(text, "-") {
		sign, text = "−", text[1:]
	}
	whole, rest, _ := strings.Cut(text, ".")
	if rest != "" {
		rest = "." + rest
	}
	return sign + grouped(whole) + rest + " " + string(c)
}

// sum writes an amount that the API answers as text, as [amount] does.
func sum(text, currency string) string {
	d, err := money.Parse(text)
	if err != nil {
		return text + " " + currency
	}
	return amount(money.NewAmount(d, money.Currency(currency)), money.Currency(currency))
}

// utc writes a time to the minute.
func utc(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") + " UTC" }

// span writes [start, end) as its first and its last day, with the time where it begins or ends within a day.
func span(start, end time.Time) string {
	start, end = start.UTC(), end.UTC()
	from, to := start.Format(time.DateOnly), end.Add(-time.Nanosecond).Format(time.DateOnly)
	if !calendar.DayOf(start).Start().Equal(start) {
		from = start.Format("2006-01-02 15:04")
	}
	if !calendar.DayOf(end).Start().Equal(end) {
		to = end.Format("2006-01-02 15:04")
	}
	if from == to {
		return from
	}
	return from + " – " + to
}

// relative says how far a time is from now: "in 3 h", "2 d ago".
func relative(now, t time.Time) string {
	d, form := t.Sub(now), "in %s"
	if d < 0 {
		d, form = -d, "%s ago"
	}
	switch {
	case d < 10*time.Second:
		return "now"
	case d < 2*time.Minute:
		return fmt.Sprintf(form, strconv.Itoa(int(d.Seconds()))+" s")
	case d < 2*time.Hour:
		return fmt.Sprintf(form, strconv.Itoa(int(d.Minutes()))+" min")
	case d < 48*time.Hour:
		return fmt.Sprintf(form, strconv.Itoa(int(d.Hours()))+" h")
	default:
		return fmt.Sprintf(form, strconv.Itoa(int(d.Hours()/24))+" days")
	}
}

// words makes words of a name of ours: "awaiting_approval" is "awaiting approval".
func words(name any) string { return strings.ReplaceAll(fmt.Sprint(name), "_", " ") }
