package documents

import (
	"github.com/riverline/tollgate/billing"

	"encoding/json"
	"math/big"
	"slices"

	"github.com/google/uuid"
)

// Totals adds up control totals. It is made by [NewTotals].
type Totals struct {
	meters []string
	byKey  map[string]*runningTotal
	rows   int64
}

type runningTotal struct {
	value         big.Int
	organizations int64
	last          uuid.UUID
}

// NewTotals makes totals of zero, to be listed in the order of the meters.
func NewTotals(meters []string) *Totals {
	return &Totals{meters: slices.Clone(meters), byKey: make(map[string]*runningTotal, len(meters))}
}

// Add adds one usage total. An organization whose rows of one meter follow each
// other counts once. A meter that was not named at first is listed after the others.
func (t *Totals) Add(usage billing.UsageTotal) {
	t.rows++
	running, ok := t.byKey[usage.Meter]
	if !ok {
		running = &runningTotal{}
		t.byKey[usage.Meter] = running
		if !slices.Contains(t.meters, usage.Meter) {
			t.meters = append(t.meters, usage.Meter)
		}
	}
	if usage.Organization != running.last {
		running.organizations++
		running.last = usage.Organization
	}
	running.value.Add(&running.value, big.NewInt(usage.Value))
}

// List returns one control total for each meter that has usage. A meter without
// any is left out, so that the list depends on the usage alone.
func (t *Totals) List() []billing.ControlTotal {
	out := make([]billing.ControlTotal, 0, len(t.byKey))
	for _, meter := range t.meters {
		if running, ok := t.byKey[meter]; ok {
			out = append(out, billing.ControlTotal{
				Meter:         meter,
				Organizations: running.organizations,
				Value:         json.Number(running.value.String()),
			})
		}
	}
	return out
}
