package accounts

import (
	"time"

	"github.com/google/uuid"
)

// OrganizationChange is what of an organization is to change; nil fields stay.
type OrganizationChange struct {
	// Name is the new name, 1 to 200 characters.
	Name *string
	// Plan is the key of the plan that is in force from EffectiveAt on, as [ChangePlan] has
	// it; where that is zero, from now on.
	Plan        *string
	EffectiveAt time.Time
	// Currency is the ISO 4217 code in which the organization is billed from the period
	// at hand on.
	Currency *string
	// Actor is the API key of whoever asks.
	Actor uuid.UUID
}
