package fault

import (
	"errors"
	"fmt"
)

var (
	// ErrInvalid is the root of errors about a field that breaks a rule.
	ErrInvalid = errors.New("invalid")
	// ErrNotFound says that there is no such thing, of whatever kind. Each package of the domain
	// has its kinds: a [NotFoundError] of a thing matches its kind, and each kind matches this.
	ErrNotFound = &NotFoundError{}
)

// FieldError is bad input: it names the field and the rule that it breaks. It
// matches [ErrInvalid].
type FieldError struct {
	// Field is the name of the field as the caller wrote it, "name".
	Field string
	// Rule is what the field must be: "must be 1 to 200 characters".
	Rule string
}

// Error returns the field and its rule.
func (e *FieldError) Error() string { return e.Field + " " + e.Rule }

// Is reports that a field error is an [ErrInvalid].
func (e *FieldError) Is(target error) bool { return target == ErrInvalid }

// NotFoundError says what was looked for and isn't there.
type NotFoundError struct {
	// Kind is the word for what was looked for, "organization". Empty: any kind.
	Kind string
	// ID says which one, as who looked for it would: "0199…", or what belongs to it as well,
	// `"usage.csv" in export 2026-10`. Empty: any of the kind.
	ID string
}

// Of returns the error about one thing of the kind.
func (e *NotFoundError) Of(id any) *NotFoundError {
	return &NotFoundError{Kind: e.Kind, ID: fmt.Sprint(id)}
}

// Error returns what wasn't found: "organization 0199… not found".
func (e *NotFoundError) Error() string { return e.What() + " not found" }

// What returns the kind and which one: "organization 0199…".
func (e *NotFoundError) What() string {
	switch {
	case e.Kind == "":
		return "thing"
	case e.ID == "":
		return e.Kind
	default:
		return e.Kind + " " + e.ID
	}
}

// Is reports that an error about one thing is one of its kind, and of [ErrNotFound].
func (e *NotFoundError) Is(target error) bool {
	kind, ok := target.(*NotFoundError)
	return ok && kind.ID == "" && (kind.Kind == "" || kind.Kind == e.Kind)
}
