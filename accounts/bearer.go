package accounts

import (
	"errors"
	"slices"

	"github.com/google/uuid"
)

// Errors about who decides.
var (
	// ErrSecondPerson says that somebody decides on what is his own doing.
	ErrSecondPerson = errors.New("a second person has to decide")
	// ErrNoActor says that who decides has no key that works, and that may decide.
	ErrNoActor = errors.New("who decides is not known")
)

// Bearer is a key with the people who have, or have had, its secret in their hands.
type Bearer struct {
	Key
	// Makers are the owners of the key with which it was made, of the key with which that one was
	// made, and so on.
	Makers []string
}

// SamePerson reports whether one person may stand behind two keys: it is one key, they have one
// owner, or the owner of one had a hand in making the other. Two keys that a third person made are
// those of two people.
func SamePerson(a, b Bearer) bool {
	if a.ID == b.ID || SameOwner(a.Owner, b.Owner) {
		return true
	}
	return slices.ContainsFunc(b.Makers, func(maker string) bool { return SameOwner(a.Owner, maker) }) ||
		slices.ContainsFunc(a.Makers, func(maker string) bool { return SameOwner(b.Owner, maker) })
}

// MayDecide is [ErrNoActor] where a key doesn't bear a role, or was revoked.
func (b Bearer) MayDecide(role Role) error {
	if b.ID == uuid.Nil || b.Role != role || b.RevokedAt != nil {
		return ErrNoActor
	}
	return nil
}
