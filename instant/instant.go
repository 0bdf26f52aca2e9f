// Package instant reads the times that callers write: RFC 3339 exactly, in one place for
// the API, its events, the command and files of usage.
package instant

import (
	"fmt"
	"strings"
	"time"

	"github.com/riverline/tollgate/fault"
)

// Rule is what a time must be, in words for who wrote another one.
const Rule = "must be a time of the form 2006-01-02T15:04:05Z (RFC 3339)"

// Error says why a text is no time. Its text goes on from the name of a field.
type Error struct {
	// Text is what was written, cut to 80 bytes.
	Text string
	// Why is what of the rule it breaks: "the day 31 isn't in month 2 of 2026".
	Why string
}

// Error returns the rule, the text and what it breaks.
func (e *Error) Error() string { return fmt.Sprintf("%s, %q is not: %s", Rule, e.Text, e.Why) }

// layout has a place for each part that has a fixed one; 0 stands for a digit.
const layout = "0000-00-00T00:00:00"

// Parse reads a date-time by the grammar of RFC 3339, section 5.6, and returns the instant
// in UTC, to the nanosecond: digits beyond that are cut off. "t" and "z" may be lower-case. A
// leap second, 23:59:60 UTC, is the last nanosecond of the second before it, since the
// clocks of computers have no other name for it. An error is an [*Error].
func Parse(text string) (time.Time, error) {
	t, why := parse(text)
	if why != "" {
		return time.Time{}, &Error{Text: fault.Shown(text), Why: why}
	}
	return t, nil
}

// parse is [Parse] that says why in words; none: the time is good.
func parse(text string) (t time.Time, why string) {
	if why := fixedPart(text); why != "" {
		return t, why
	}
	year, month, day := number(text[0:4]), number(text[5:7]), number(text[8:10])
	hour, minute, second := number(text[11:13]), number(text[14:16]), number(text[17:19])
	switch {
	case month < 1 || month > 12:
		return t, "the month must be 01 to 12"
	case day < 1 || day > daysIn(year, month):
		return t, fmt.Sprintf("the day %d isn't in month %d of %04d", day, month, year)
	case hour > 23:
		return t, "the hour must be 00 to 23"
	case minute > 59:
		return t, "the minute must be 00 to 59"
	case second > 60:
		return t, "the second must be 00 to 59, or 60 at a leap second"
	}
	nanos, rest, why := fraction(text[len(layout):])
	if why != "" {
		return t, why
	}
	offset, why := zone(rest)
	if why != "" {
		return t, why
	}
	if second == 60 {
		t = time.Date(year, time.Month(month), day, hour, minute-offset, 59, int(time.Second-1), time.UTC)
		if t.Hour() != 23 || t.Minute() != 59 {
			return time.Time{}, "a second of 60 is a leap second, which only 23:59:60 UTC can be"
		}
		return t, ""
	}
	return time.Date(year, time.Month(month), day, hour, minute-offset, second, nanos, time.UTC), ""
}

// fixedPart checks the form of all before the fraction and the offset.
func fixedPart(text string) (why string) {
	for i := range layout {
		if i >= len(text) {
			return "it ends too early"
		}
		c, want := text[i], layout[i]
		switch {
		case want == '0' && digit(c), want == c, want == 'T' && c == 't':
		case want == '0':
			return fmt.Sprintf("byte %d must be a digit", i+1)
		default:
			return fmt.Sprintf("byte %d must be %q", i+1, want)
		}
	}
	return ""
}

// fraction reads the fraction of a second, if there is one, and returns what follows.
func fraction(text string) (nanos int, rest, why string) {
	if !strings.HasPrefix(text, ".") {
		return 0, text, ""
	}
	n := 1
	for unit := int(time.Second) / 10; n < len(text) && digit(text[n]); n++ {
		nanos += int(text[n]-'0') * unit
		unit /= 10
	}
	if n == 1 {
		return 0, "", "a digit must follow the point"
	}
	return nanos, text[n:], ""
}

// zone reads the offset from UTC, in minutes.
func zone(text string) (minutes int, why string) {
	const form = "it must end in Z, or in an offset of the form +00:00"
	if text == "Z" || text == "z" {
		return 0, ""
	}
	if len(text) != len("+00:00") || text[0] != '+' && text[0] != '-' || text[3] != ':' ||
		!digit(text[1]) || !digit(text[2]) || !digit(text[4]) || !digit(text[5]) {
		return 0, form
	}
	hours, minutes := number(text[1:3]), number(text[4:6])
	if hours > 23 || minutes > 59 {
		return 0, "the offset must be at most 23:59"
	}
	minutes += 60 * hours
	if text[0] == '-' {
		minutes = -minutes
	}
	return minutes, ""
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// number returns the value of some digits.
func number(digits string) (n int) {
	for i := range len(digits) {
		n = n*10 + int(digits[i]-'0')
	}
	return n
}

func daysIn(year, month int) int {
	return time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}
