package meter_test

import (
	"context"
	"testing"

	"pgregory.net/rapid"

	"github.com/riverline/tollgate/meter"
)

// recover has a member find out that the store has gone back in time, as it does where its connection
// was cut: it brings the store up to date, and says what it has admitted.
func (f *fleet) recover(m *member) {
	if _, err := m.flusher.Flush(context.Background()); err != nil {
		return
	}
	if m.flusher.CompareLeases(context.Background()) != nil {
		return
	}
	for range 3 {
		meter.KeepLeases(m.meter)
	}
	delete(f.forgotten, m.id)
}

// forget notes whose usage and leases the store may have lost.
func (f *fleet) forget() {
	f.restores++
	for _, m := range f.members {
		f.forgotten[m.id] = true
	}
	for _, j := range f.dead {
		f.forgotten[j.instance] = true
	}
}

// TestLimitsHoldAfterARestore adds a store that goes back in time: once all instances have found out,
// no more is admitted than the limit less what was acknowledged or held by then.
func TestLimitsHoldAfterARestore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFleet(t, true, false)
		steps := f.steps()
		steps["back up"] = func(*rapid.T) { f.backup = f.store.Backup() }
		steps["restore"] = func(*rapid.T) { f.restore() }
		steps["recover"] = func(t *rapid.T) { f.recover(f.member(t)) }
		steps["recover all"] = func(*rapid.T) {
			for _, m := range f.members {
				f.recover(m)
			}
			for replayed := true; replayed && len(f.dead) > 0; {
				replayed = f.replay()
			}
		}
		t.Repeat(steps)
		f.finish(t)
		f.requireTheLastUnitIsFound(t)
	})
}
