package meter

import (
	"context"
	"time"

	"github.com/riverline/tollgate/plans"
)

// WithManualLeases returns a config of a meter that calls for leases only in KeepLeases.
func WithManualLeases(c Config) Config {
	c.manualLeases = true
	return c
}

// KeepLeases makes the calls for leases that are due.
func KeepLeases(m *Meter) {
	if batch := m.keeper.take(); len(batch) > 0 {
		m.keeper.ask(context.Background(), batch)
	}
}

// AdmitManually is Admit where the calls for leases are made in between, rounds times at
// most.
func AdmitManually(o *Organization, i Index, quantity int64, now time.Time, rounds int) (plans.Decision, Reservation) {
	var wanted want
	defer wanted.drop()
	for round := 0; ; round++ {
		d, r, q, v := o.reserve(i, wishNow(quantity, now, true))
		if v != short || round == rounds {
			return d, r
		}
		wanted.waitFor(q, quantity)
		KeepLeases(o.meter)
	}
}

// WaitForLoads waits for the loads in the background.
func WaitForLoads(m *Meter) { m.background.Wait() }

// NewTestRefresher makes one whose catalog is what is in force already.
func NewTestRefresher(m *Meter, now func() time.Time) *Refresher {
	return NewRefresher(RefresherConfig{
		Meter: m, Now: now,
		Catalog: func(context.Context) (*plans.Catalog, Seen, error) { return m.Catalog(), Seen{}, nil },
	})
}
