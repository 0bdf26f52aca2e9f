package accounts

import "github.com/riverline/tollgate/fault"

// Kinds of what may be looked for and isn't there.
var (
	// ErrOrganizationNotFound says that there is no such organization.
	ErrOrganizationNotFound = &fault.NotFoundError{Kind: "organization"}
	// ErrKeyNotFound says that there is no such API key.
	ErrKeyNotFound = &fault.NotFoundError{Kind: "API key"}
	// ErrPlanNotFound is about a plan that was never published.
	ErrPlanNotFound = &fault.NotFoundError{Kind: "plan"}
	// ErrSignInNotFound says that there is no such sign-in that is open.
	ErrSignInNotFound = &fault.NotFoundError{Kind: "sign-in"}
)
