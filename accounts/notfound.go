package accounts

import "fmt"

// Kinds of what may be looked for and isn't there. The domain's other packages have their
// own. A [NotFoundError] of a thing matches its kind, and each kind matches [ErrNotFound].
var (
	// ErrNotFound says that there is no such thing, of whatever kind.
	ErrNotFound = &NotFoundError{}
	// ErrOrganizationNotFound says that there is no such organization.
	ErrOrganizationNotFound = &NotFoundError{Kind: "organization"}
	// ErrKeyNotFound says that there is no such API key.
	ErrKeyNotFound = &NotFoundError{Kind: "API key"}
)

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
