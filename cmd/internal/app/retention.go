package app

import (
	"time"

	"github.com/riverline/tollgate/activities"
)

// leastKept is the least that a retention may be: the time for which an identity counts, and a billing month.
const leastKept = 70 * 24 * time.Hour

// Retention are the settings of what the daily housekeeping deletes.
type Retention struct {
	KeepEvents time.Duration `default:"4800h" env:"TOLLGATE_KEEP_EVENTS" help:"How long events are kept that were sent or given up, with their deliveries and attempts, and endpoints that were deleted, 1680h to 87600h. 0: for ever."`
}

// Validate checks the settings.
func (r Retention) Validate() error {
	return kept("--keep-events", r.KeepEvents)
}

func kept(flag string, value time.Duration) error {
	if value == 0 {
		return nil
	}
	return within(flag, value, leastKept, 87_600*time.Hour)
}

// ofHousekeeping is what the activity is told.
func (r Retention) ofHousekeeping() activities.Retention {
	return activities.Retention{Events: r.KeepEvents}
}
