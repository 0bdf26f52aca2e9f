package app

import (
	"errors"
	"time"

	"github.com/riverline/tollgate/activities"
)

// leastKept is the least that a retention may be: the time for which an identity counts, and a billing month.
const leastKept = 70 * 24 * time.Hour

// Retention are the settings of what the daily housekeeping deletes.
type Retention struct {
	KeepEvents    time.Duration `default:"4800h" env:"TOLLGATE_KEEP_EVENTS" help:"How long events are kept that were sent or given up, with their deliveries and attempts, and endpoints that were deleted, 1680h to 87600h. 0: for ever."`
	KeepBatchRows int           `default:"4" env:"TOLLGATE_KEEP_BATCH_ROWS" help:"How many closed months must follow a closed one before its batch rows are dropped, 4 to 1200: three may correct it, and the last of them may be opened again. 0: they are kept for ever."`
	KeepInstances time.Duration `default:"9600h" env:"TOLLGATE_KEEP_INSTANCES" help:"How long the identities of batches are kept of which no row is left, and instances that are gone and that nothing names, 1680h to 87600h. A journal's folder that is older counts no more. 0: for ever."`
}

// Validate checks the settings.
func (r Retention) Validate() error {
	return errors.Join(kept("--keep-events", r.KeepEvents), kept("--keep-instances", r.KeepInstances), r.checkBatchRows())
}

func (r Retention) checkBatchRows() error {
	if r.KeepBatchRows == 0 {
		return nil
	}
	return between("--keep-batch-rows", r.KeepBatchRows, 4, 1200)
}

func kept(flag string, value time.Duration) error {
	if value == 0 {
		return nil
	}
	return within(flag, value, leastKept, 87_600*time.Hour)
}

// ofHousekeeping is what the activity is told.
func (r Retention) ofHousekeeping() activities.Retention {
	return activities.Retention{Events: r.KeepEvents, LaterMonths: r.KeepBatchRows, Instances: r.KeepInstances}
}
