package plans

import (
	"errors"
	"strings"
)

// ErrQuantity says that a text is no quantity.
var ErrQuantity = errors.New("must be a whole number, 0 to 1000000000000000")

// ParseQuantity reads a JSON number whose value is whole, 0 to [MaxQuantity], however it is
// written: 3, 3.0, 3e0 and 30e-1 are the same. It never goes through a float. Any other text
// is [ErrQuantity].
func ParseQuantity(text string) (int64, error) {
	number, negative := strings.CutPrefix(text, "-")
	mantissa, exponent, ok := cutExponent(number)
	whole, fraction, pointed := strings.Cut(mantissa, ".")
	switch {
	case !ok, !isDigits(whole), pointed && !isDigits(fraction), len(whole) > 1 && whole[0] == '0':
		return 0, ErrQuantity
	}
	digits := strings.TrimLeft(whole+fraction, "0")
	exponent -= len(fraction)
	trimmed := strings.TrimRight(digits, "0")
	exponent += len(digits) - len(trimmed)
	const most = len("1000000000000000")
	switch {
	case trimmed == "":
		return 0, nil
	case negative, exponent < 0, exponent > most, len(trimmed)+exponent > most:
		return 0, ErrQuantity
	}
	var n int64
	for i := range len(trimmed) + exponent {
		n *= 10
		if i < len(trimmed) {
			n += int64(trimmed[i] - '0')
		}
	}
	if n > MaxQuantity {
		return 0, ErrQuantity
	}
	return n, nil
}

// cutExponent splits a number at its exponent, of which it returns no more than it takes to
// tell that it is out of range.
func cutExponent(number string) (mantissa string, exponent int, ok bool) {
	at := strings.IndexAny(number, "eE")
	if at < 0 {
		return number, 0, true
	}
	digits := number[at+1:]
	sign := 1
	if digits != "" && (digits[0] == '+' || digits[0] == '-') {
		if digits[0] == '-' {
			sign = -1
		}
		digits = digits[1:]
	}
	if !isDigits(digits) {
		return "", 0, false
	}
	const huge = 1 << 30
	for i := 0; i < len(digits) && exponent < huge; i++ {
		exponent = exponent*10 + int(digits[i]-'0')
	}
	return number[:at], sign * exponent, true
}

func isDigits(text string) bool {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return false
		}
	}
	return text != ""
}
