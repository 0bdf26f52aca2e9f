package events

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// Usage is the data of [UsageThresholdReached] and [PlanLimitExceeded].
type Usage struct {
	// Organization is whom it is about.
	Organization uuid.UUID `json:"organization_id"`
	// Meter is the meter's key.
	Meter string `json:"meter"`
	// Plan is the key of the plan that sets the limit, Mode what happens beyond it.
	Plan string     `json:"plan"`
	Mode plans.Mode `json:"mode"`
	// Window is the limit's window, [WindowStart, WindowEnd), UTC.
	Window      calendar.WindowKind `json:"window"`
	WindowStart time.Time           `json:"window_start"`
	WindowEnd   time.Time           `json:"window_end"`
	// Percent is the threshold that was reached, 1 to 100; 0 for a limit that was passed.
	Percent int `json:"percent,omitempty"`
	// Current is the usage of the window when this was found, Held what reservations held
	// beside it, Max the limit; in the meter's unit.
	Current int64 `json:"current"`
	Held    int64 `json:"held"`
	Max     int64 `json:"max"`
}

// PlanChange is the data of [OrganizationUpgraded].
type PlanChange struct {
	// Organization is whom it is about.
	Organization uuid.UUID `json:"organization_id"`
	// PreviousPlan and Plan are the keys of the plan before and after; PreviousPlan is
	// empty where a contract begins.
	PreviousPlan string `json:"previous_plan"`
	Plan         string `json:"plan"`
}

// ContractEnd is the data of [OrganizationEnded].
type ContractEnd struct {
	// Organization is whom it is about.
	Organization uuid.UUID `json:"organization_id"`
	// PreviousPlan is the key of the plan that was in force until the end.
	PreviousPlan string `json:"previous_plan"`
}

// NewUsage makes the event that a threshold was reached or, where u.Percent is 0, that a
// limit was passed. Its key makes it unique for the organization, meter, window and
// percentage, whichever replica finds it.
func NewUsage(u Usage, at time.Time) (Event, error) {
	kind, percent := PlanLimitExceeded, 100
	if u.Percent > 0 {
		kind, percent = UsageThresholdReached, u.Percent
	}
	// The first day of a month and the month begin at the same time.
	key := fmt.Sprintf("%s/%s/%s/%s/%s/%d", kind, u.Organization, u.Meter, u.Window, u.WindowStart.UTC().Format(time.DateOnly), percent)
	return newEvent(kind, key, u.Organization, at, u)
}

// NewPlanChange makes the event that an organization has another plan from a time on. Its
// key makes it unique for the organization and that time, whoever finds it.
func NewPlanChange(c PlanChange, at time.Time) (Event, error) {
	return newEvent(OrganizationUpgraded, contractKey(OrganizationUpgraded, c.Organization, at), c.Organization, at, c)
}

// NewContractEnd makes the event that an organization's contract ended at a time, unique as
// that of [NewPlanChange].
func NewContractEnd(c ContractEnd, at time.Time) (Event, error) {
	return newEvent(OrganizationEnded, contractKey(OrganizationEnded, c.Organization, at), c.Organization, at, c)
}

func contractKey(kind Kind, organization uuid.UUID, at time.Time) string {
	return fmt.Sprintf("%s/%s/%s", kind, organization, at.UTC().Format(time.RFC3339Nano))
}

func newEvent(kind Kind, key string, organization uuid.UUID, at time.Time, data any) (Event, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Event{}, fmt.Errorf("make the id of an event: %w", err)
	}
	encoded, err := json.Marshal(data)
	if err != nil {
		return Event{}, fmt.Errorf("encode the data of an event: %w", err)
	}
	return Event{ID: id, Key: key, Kind: kind, Organization: organization, OccurredAt: at.UTC(), Data: encoded}, nil
}
