package accounts

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/riverline/tollgate/fault"
)

// MaxOwner is the longest owner of a key, in characters.
const MaxOwner = 200

// ParseOwner returns the form of an owner's name that is kept: two that look alike are written
// alike. One that is blank, too long, or has characters that nobody sees is a [*fault.FieldError].
func ParseOwner(text string) (string, error) {
	owner := strings.Join(strings.Fields(norm.NFKC.String(text)), " ")
	if n := utf8.RuneCountInString(owner); n < 1 || n > MaxOwner {
		return "", &fault.FieldError{Field: "owner", Rule: "must say which person uses the key, in 1 to 200 characters: an e-mail address, or a name"}
	}
	if strings.ContainsFunc(owner, func(r rune) bool { return r != ' ' && !shows(r) }) {
		return "", &fault.FieldError{Field: "owner", Rule: "must not contain characters that nobody sees"}
	}
	return owner, nil
}

// SameOwner reports whether two owners, as [ParseOwner] returns them, are one person. Of whom
// nothing is known may be anybody.
func SameOwner(a, b string) bool { return a == "" || b == "" || strings.EqualFold(a, b) }
